"""Tests of transaction."""
