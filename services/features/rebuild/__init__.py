"""A shard's state, made again from the log."""
