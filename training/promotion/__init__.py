"""Promotion: who may say which model is served, and on which evidence."""
