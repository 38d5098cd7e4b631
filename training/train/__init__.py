"""Training of one model: configuration, calibration, export."""
