"""The services. They meet only in contracts, topics and the shared package."""
