"""Secret files, and the keys that protect card numbers: made, wrapped, read and rotated."""
