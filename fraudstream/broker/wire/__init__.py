"""The log as bytes: record batches, their codecs, MACs and what both clients read through."""
