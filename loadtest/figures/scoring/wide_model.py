"""An artefact with an LSTM 2 x 128 that was never fitted: as much work as one that was.

It is the demo's artefact but for its network, its golden rows, and thresholds that flag as few rows
as those of a fitted model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from fraudstream.engines.golden import GoldenRows
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import score_rows
from fraudstream.models.artefact import read_artefact, write_artefact
from fraudstream.models.calibration import Thresholds
from fraudstream.models.manifest import golden_text
from harness.model_repository import DEMO_MODEL
from loadtest.figures.features.population import FeatureLot

_GOLDEN: Final = 256
# Shares of rows that reach challenge, review and decline: those of the demo's model on its tests.
_FLAGGED: Final = (0.0177, 0.0074, 0.0015)


def write_wide_model(folder: Path, lot: FeatureLot) -> OnnxEngine:
    """Write the artefact, whose golden rows are some of these; return its network as an engine."""
    from loadtest.engines.networks import subject
    from training.train.export import member_of

    demo = read_artefact(DEMO_MODEL).manifest
    onnx = subject("lstm-2x128").onnx()
    engine = OnnxEngine(onnx)
    raw = score_rows(engine, lot.vectors, lot.sequences)
    scores = demo.calibration.scores(raw.astype(np.float64))
    challenge, review, decline = np.quantile(scores, [1 - share for share in _FLAGGED]).tolist()
    chosen = np.linspace(0, len(raw) - 1, _GOLDEN).astype(np.intp)
    golden = GoldenRows(lot.vectors[chosen], lot.sequences[chosen], raw[chosen])
    member = member_of("lstm", demo.members[0].kind, onnx)
    manifest = demo.model_copy(
        update={
            "name": "wide",
            "members": (member,),
            "thresholds": Thresholds(challenge=challenge, review=review, decline=decline),
            "golden": golden_text(golden),
        }
    )
    write_artefact(folder, manifest, {member.file: onnx})
    return engine
