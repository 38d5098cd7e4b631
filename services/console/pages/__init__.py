"""What the browser sees: one module for each page."""
