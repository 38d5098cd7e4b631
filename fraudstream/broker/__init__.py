"""What every reader and writer of Kafka shares: record batches, codecs, the clients' seam."""
