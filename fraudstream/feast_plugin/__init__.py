"""The Feast store, provider and history of this project."""
