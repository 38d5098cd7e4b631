"""Evaluation: how good scores are, by which protocol, and for whom."""
