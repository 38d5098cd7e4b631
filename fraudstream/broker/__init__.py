"""What every reader and writer of Kafka shares: record batches, codecs, patches of clients."""
