"""What happens off the caller's path: shadow scores, scores after a stand-in, metrics."""
