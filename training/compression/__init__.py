"""Smaller and faster forms of a fitted model, each with what it costs in accuracy, measured."""
