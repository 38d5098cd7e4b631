// Makes calls of fraudstream.v1.Scoring from a script, knowing only the proto files.
//
//   node calls.mjs PROTO_FOLDER ADDRESS < calls.jsonl > answers.jsonl
//
// A call is {"tag", "at_ms", "deadline_ms", "transaction"}: sent `at_ms` after the start, whether
// or not earlier ones were answered. An answer is the call's tag, when it was sent and answered (ms
// after the start), the gRPC code, and the decision or the message and fraud-reason.
import * as grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { createInterface } from "node:readline";
import { stdin, stdout, argv } from "node:process";

const [, , protos, address] = argv;
const definition = loader.loadSync("fraudstream/v1/scoring.proto", {
  includeDirs: [protos], keepCase: true, longs: String, enums: String, defaults: true,
});
const { Scoring } = grpc.loadPackageDefinition(definition).fraudstream.v1;
const client = new Scoring(address, grpc.credentials.createInsecure());

const calls = [];
for await (const line of createInterface({ input: stdin })) calls.push(JSON.parse(line));

const began = performance.now();
const now = () => performance.now() - began;

const made = calls.map((call) => new Promise((resolve) => {
  setTimeout(() => {
    const sent_ms = now();
    const deadline = new Date(Date.now() + call.deadline_ms);
    client.Score({ transaction: call.transaction }, { deadline }, (error, decision) => {
      const answered_ms = now();
      const outcome = error
        ? { code: grpc.status[error.code], message: error.details,
            reason: error.metadata?.get("fraud-reason")?.[0] ?? "" }
        : { code: "OK", decision: { ...decision, vector: undefined, sequence: undefined } };
      stdout.write(JSON.stringify({ tag: call.tag, sent_ms, answered_ms, ...outcome }) + "\n");
      resolve();
    });
  }, call.at_ms);
}));
await Promise.all(made);
client.close();
