"""The roles of the service: card, entity and label, and the loop of a shard."""
