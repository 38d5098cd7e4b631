"""The one gRPC method between agent and scorer: a `FeatureRow` in, a `Decision` out."""

from typing import Final

SERVICE: Final = "plain.Scorer"
NAME: Final = "Score"
METHOD: Final = f"/{SERVICE}/{NAME}"
