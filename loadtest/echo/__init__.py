"""The echo: the same gRPC server and messages as scoring, and nothing behind them."""
