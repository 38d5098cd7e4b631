"""Generated protobuf and gRPC code: the contracts. Made from proto/ by proto/generate.sh."""
