"""A transaction by gRPC: from its row to its recorded decision."""
