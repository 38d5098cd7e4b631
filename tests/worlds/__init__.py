"""Parts of the line set up for tests."""
