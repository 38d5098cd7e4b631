"""Records, files and tables that tests feed in or compare with."""
