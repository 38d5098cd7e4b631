"""Models: what turns a vector and a sequence into a raw score."""
