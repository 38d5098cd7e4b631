"""The decision: verdict, rules, message and record."""
