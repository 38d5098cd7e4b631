"""Scoring by gRPC: latency, load, memory and rules."""
