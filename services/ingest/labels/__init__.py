"""Labels: read, imported, settled."""
