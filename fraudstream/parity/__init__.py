"""Parity: what a decision was made from, computed again from the log, and compared."""
