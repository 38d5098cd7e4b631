"""Tests by what nobody here wrote: other clients, other languages, a reader who has only a page."""
