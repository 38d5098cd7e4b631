"""Tests of features service."""
