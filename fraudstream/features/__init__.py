"""The feature engine: one catalogue, one kernel, driven online, at authorisation and offline."""
