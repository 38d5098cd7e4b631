"""Dead letters: listed, corrected and sent again."""
