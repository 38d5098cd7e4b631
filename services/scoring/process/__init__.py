"""Processes of the service: build, start, workers and end."""
