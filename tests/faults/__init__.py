"""What is left after crashes."""
