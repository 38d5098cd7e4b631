"""Learning: how a network's weights are found, kept and found again."""
