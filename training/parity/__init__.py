"""The parity certificate: features of decisions, rebuilt from the log and compared bit for bit."""
