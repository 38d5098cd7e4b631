"""Lua scripts that run inside the store: each is one atomic step of a shard."""
