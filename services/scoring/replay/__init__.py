"""Recorded decisions made again, from the record alone."""
