"""Attacks that once worked, from outside: each must be refused, for good."""
