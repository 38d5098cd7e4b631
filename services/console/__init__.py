"""The console: alerts from Kafka in a queue, settled by analysts, labels back to Kafka."""
