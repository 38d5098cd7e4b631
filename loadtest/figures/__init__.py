"""The figures: one file an experiment, all registered in `catalogue.py`."""
