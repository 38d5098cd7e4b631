"""The console in a real browser, before a real server and a real broker."""
