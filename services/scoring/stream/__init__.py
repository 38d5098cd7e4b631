"""Transactions of the stream: from the features service's batch to its results."""
