"""Drift: whether what comes today is still what the model learned from."""
