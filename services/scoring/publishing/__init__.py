"""From the store's outbox to the topics: decisions and alerts."""
