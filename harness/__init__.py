"""Servers, services and traffic on one machine: what demo, load tests and tests start."""
