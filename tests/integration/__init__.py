"""With a real broker, a real store, a real wire."""
