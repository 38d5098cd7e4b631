"""Reasons of a score: groups of features, occlusion and their texts."""
