"""What analysts settle, and how it becomes a label."""
