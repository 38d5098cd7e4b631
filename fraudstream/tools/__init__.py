"""Makers of documents from the code; no service imports them."""
