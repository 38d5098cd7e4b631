"""Tests of what is on its way to the topics."""
