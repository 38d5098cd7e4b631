"""Dead letters: what is kept of a refused record, and how it is shown."""
