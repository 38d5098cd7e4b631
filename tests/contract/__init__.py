"""What other programs and other releases rely on."""
