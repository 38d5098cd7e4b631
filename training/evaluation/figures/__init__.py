"""Figures of an evaluation, each by itself."""
