"""What computes raw scores: one protocol, and the engines behind it, all held to golden rows."""
