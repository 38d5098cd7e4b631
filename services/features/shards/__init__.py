"""What is known of a shard: its log, its position and what it lost."""
