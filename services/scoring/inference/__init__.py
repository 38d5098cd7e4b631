"""Models in use: batches, explanations and hot swap."""
