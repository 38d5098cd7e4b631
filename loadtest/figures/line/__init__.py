"""The whole line, and the plain composition beside it."""
