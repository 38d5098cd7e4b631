"""A load generator that costs less than what it loads: calls of gRPC, sent when they are due."""
