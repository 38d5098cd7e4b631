"""Scoring: two gRPC doors, one engine, one decision for each transaction."""
