"""Load tests and figures: Locust users, the benchmark, and what it compares the line with."""
