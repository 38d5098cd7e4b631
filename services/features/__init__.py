"""Features: moves the states of cards and shared entities on, and has every row scored."""
