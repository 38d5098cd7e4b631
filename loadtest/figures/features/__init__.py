"""Features online and offline, beside Feast, pandas and a floor."""
