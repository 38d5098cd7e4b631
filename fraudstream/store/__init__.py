"""The online store: keys, scripts, shards and shared entities."""
