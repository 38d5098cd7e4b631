"""Signing in to the console: who, from where, how often, with which password and which code."""
