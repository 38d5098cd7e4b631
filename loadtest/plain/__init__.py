"""The plain composition: the same libraries in their stock style, as an honest best effort.

A stock Faust agent takes one accepted row at a time, asks Feast's SDK for the states of the card
and of all its shared entities, computes features with our kernel, has one row scored by unary gRPC,
writes state and vector back through Feast, and sends decision, alert and entities' rows with
Faust's producer. Model, features, decision and alert are ours, by the same code. It lacks
identities, claims, records, outbox and marker, so it does less than our line.

Tuned as the libraries' pages advise: one read (one feature service) and one write of Feast a row,
asynchronous, of states only; a registry that is cached for ever; `skip_dedup`; hiredis; uvloop;
`producer_linger`; raw serialisers, no web server; one gRPC channel without retries; ONNX Runtime
with one thread, in the event loop, as with one row at a time a thread would only add hand-overs.

The tuned composition (`tuned`, `tuned-entity`) is the same code over up to 64 events with the best
parts that are to be had, `tuned_parts`: one read, one run of the kernels, one call, one write.
"""
