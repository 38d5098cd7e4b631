"""Dead letters: listed, mended and sent again."""
