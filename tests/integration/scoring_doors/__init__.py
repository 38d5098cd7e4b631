"""Tests of scoring doors."""
