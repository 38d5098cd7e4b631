"""The gRPC server: callers, messages, certificates and limits."""
