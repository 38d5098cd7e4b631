"""The plain composition: the same libraries in their stock style, as an honest best effort.

What it does: a stock Faust agent takes one accepted row at a time, asks Feast's SDK for the states
of the card and of all its shared entities, computes features with our kernel, has one row scored
by unary gRPC, writes state and vector back through Feast, and sends the decision, the alert and
the entities' rows with Faust's producer. Model, features, decision and alert are ours, by the same
code.

What it lacks: identities, claims, records, outbox, marker. It decides a repeated row twice, and a
row whose handler raises is lost. So it does less than our line, which is in its favour.

What was tuned, and who says so:
- One read and one write of Feast a row: what is read together is asked for by one feature service,
  and Redis answers all its views in one pipeline (docs.feast.dev, "Online Server Performance
  Tuning": feature view structuring).
- The read asks for states only: the vector is written for others to read, never read here.
- `get_online_features_async` and `write_to_online_store_async`: the agent's loop never blocks
  (the same page: async and sync online reads).
- Registry cached for ever (`cache_ttl_seconds: 0`), so no call waits for a refresh (the same
  page: registry cache tuning).
- `skip_dedup: true`: one round trip a write; there is one writer a card (the same page: Redis).
- hiredis parses Redis' answers (redis-py's documentation: it is used where it is installed).
- uvloop under Faust (its documentation: `--loop uvloop`; measured: 49 against 66 µs a record) and
  under grpc.aio, as in our scoring service.
- `producer_linger`: outputs of several rows share a request; Faust flushes before it commits, so
  nothing waits for an acknowledgement and nothing is lost (at least once).
- `topic_disable_leader`, no web server, raw serialisers: nothing runs that is not used.
- One gRPC channel for ever, no retries of its own (grpc.io, "Performance Best Practices").
- ONNX Runtime with one thread and no spinning; a row that needs reasons is explained in one batch.
- The engine runs in the event loop: with one row at a time a thread would only add two hand-overs.

The tuned composition (`tuned`, `tuned-entity`) is the same code over up to 64 events with the best
parts that are to be had, `tuned_parts`: one read, one run of the kernels, one call, one write.
"""
