"""Attacks from inside: one service's topic, store user, file or key."""
