"""Attacks on the console."""
