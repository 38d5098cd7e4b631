"""The stages of a training set, in order."""
