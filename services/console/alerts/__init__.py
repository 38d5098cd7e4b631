"""Alerts: read from the topic, kept, listed and drawn."""
