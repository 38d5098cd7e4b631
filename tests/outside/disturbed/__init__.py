"""Tests of disturbed."""
