"""What an operator sets up: topics, principals and keys of records."""
