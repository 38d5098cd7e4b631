"""A model artefact from disk to its first score, beside a bare session of the same ONNX file.

Ours: the promotion ledger's chain and signatures, read, SHA-256, Ed25519 signature, manifest, what
the graph declares, the contract, the golden rows' shape, a session, and the first golden row scored
and compared. Nothing serves at that moment: the other golden rows, in batches of all sizes, come
before it is ready, which stands beside the figure (`ready`). 256 rows of an LSTM take as long
as three sessions, whatever checks them.

Bare: `onnxruntime.InferenceSession` on the path with one thread, as ours, and one run of one row.
The model is the demo's LSTM 2 x 64 on 32 steps. CPU time, all warm in the page cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from fraudstream.engines.golden import check_scores, rule_of
from fraudstream.models.artefact import Artefact
from fraudstream.models.ledger_entry import ModelRef
from fraudstream.models.open_engine import Budget, open_engine, ready_engine
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms
from fraudstream.signing import People
from harness.model_repository import DEMO_MODEL, PEOPLE, REPOSITORY, prepare_repository
from loadtest.bench.figure import Plan, Sample, Sides, experiment, ratio
from loadtest.bench.spent import spent
from loadtest.figures.table import figure

_LOADS: Final = 40
_NO_BUDGET: Final = Budget(batch_ms=float("inf"), growth_bytes=1 << 62)


@experiment(figure("artefact_load_vs_session", ratio("ours", "bare")))
def artefact_load(plan: Plan) -> Iterator[Sides]:
    """Promote the demo's model in a repository, and load it each way."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    prepare_repository(DEMO_MODEL, plan.folder)
    loads = _Loads(plan.folder)
    ways = {"ours": loads.to_first_score, "bare": loads.bare, "ready": loads.to_ready}
    count = plan.rows(_LOADS, 3)
    for way in ways.values():
        way()
    yield {name: partial(_spent_on, way, count) for name, way in ways.items()}


def _spent_on(way: Callable[[], None], count: int) -> Sample:
    def loads() -> None:
        for _ in range(count):
            way()

    return spent(loads, count)


class _Loads:
    """The ways from a folder to a score."""

    def __init__(self, folder: Path) -> None:
        self._repository = ModelRepository(
            folder / REPOSITORY,
            People.load(folder / PEOPLE),
            epoch_ms,
        )
        artefact = self._load()
        model = ModelRef(
            name=artefact.manifest.name,
            version=artefact.manifest.version,
            manifest_sha256=artefact.model_hash,
        )
        self._path = str(self._repository.place_of(model) / artefact.manifest.members[0].file)
        golden = artefact.golden
        self._row = {"vector": golden.vectors[:1], "sequence": golden.sequences[:1]}
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = 1

    def _load(self) -> Artefact:
        return self._repository.load_champion(self._repository.read())

    def to_first_score(self) -> None:
        artefact = self._load()
        manifest, golden = artefact.manifest, artefact.golden
        first = open_engine(artefact).score(golden.vectors[:1], golden.sequences[:1])
        rule = rule_of(manifest.precision, manifest.is_alert)
        check_scores(np.asarray(first), golden.raw_scores[:1], rule)

    def to_ready(self) -> None:
        ready_engine(self._load(), _NO_BUDGET)

    def bare(self) -> None:
        session = onnxruntime.InferenceSession(
            self._path, self._options, providers=["CPUExecutionProvider"]
        )
        session.run(["raw_score"], self._row)
