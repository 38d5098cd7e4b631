"""Tests of the Feast plugin."""
