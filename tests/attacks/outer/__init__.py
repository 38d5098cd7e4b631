"""Attacks from outside: raw topics, gRPC, files and models."""
