"""The shared package: contracts and the pure core. Knows no service and does no I/O at import."""
