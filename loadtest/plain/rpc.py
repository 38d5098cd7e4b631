"""The gRPC methods between agents and scorer: one `FeatureRow`, or a `FeatureBatchRequest`."""

from typing import Final

SERVICE: Final = "plain.Scorer"
NAME: Final = "Score"
METHOD: Final = f"/{SERVICE}/{NAME}"
BATCH_NAME: Final = "ScoreBatch"
BATCH_METHOD: Final = f"/{SERVICE}/{BATCH_NAME}"
