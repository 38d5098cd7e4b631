"""Which card shards are open."""
