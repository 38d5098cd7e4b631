// Seals card numbers as docs/data.md says, with libsodium's JavaScript form.
//
//   node seal.mjs PUBLIC_KEY_HEX < records.jsonl > sealed.jsonl
//
// A record is {"bank_id", "transaction_id", "pan"}; printed without `pan`, with the sealed fields.
import sodium from "libsodium-wrappers";
import { createInterface } from "node:readline";
import { stdin, argv } from "node:process";

await sodium.ready;
const publicKey = sodium.from_hex(argv[2]);
const digest = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const keyId = sodium.to_hex(await digest(publicKey)).slice(0, 16);

for await (const line of createInterface({ input: stdin })) {
  const { pan, ...record } = JSON.parse(line);
  const text = ["fraudstream-pan-1", record.bank_id, record.transaction_id, pan].join("\n");
  const box = sodium.crypto_box_seal(sodium.from_string(text), publicKey);
  record.pan_sealed = sodium.to_base64(box, sodium.base64_variants.ORIGINAL);
  record.pan_key_id = keyId;
  console.log(JSON.stringify(record));
}
