"""Processes of the service: build, command line and watchdog."""
