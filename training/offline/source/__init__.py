"""Where rows come from: files or Kafka, as canonical columns."""
