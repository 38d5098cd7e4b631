"""Training sets of any length in bounded memory: the stream's features, from files or Kafka."""
