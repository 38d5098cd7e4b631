"""A simulated bank: cardholders, fraudsters and their messages."""
