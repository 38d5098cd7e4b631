"""Servers, certificates and keys of a test's own."""
