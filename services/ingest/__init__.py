"""Ingest: raw records become canonical transactions, or dead letters with a reason."""
