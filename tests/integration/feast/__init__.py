"""Tests of feast."""
