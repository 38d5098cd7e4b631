"""A model artefact from disk to its first score, beside a bare session of the same ONNX file.

Ours: the promotion ledger's chain and signatures, read, SHA-256, Ed25519 signature, manifest, what
the graph declares, the contract, the golden rows' shape, a session, and the first golden row scored
and compared. Bare: `onnxruntime.InferenceSession` on the path with one thread, as ours, and one run
of one row. The model is the demo's LSTM 2 x 64 on 32 steps. CPU time, all warm in the page cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import onnxruntime

from fraudstream.engines.golden import check_scores, rule_of
from fraudstream.models.ledger_entry import ModelRef
from fraudstream.models.open_engine import open_engine
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms
from fraudstream.signing import People
from harness.model_repository import DEMO_MODEL, PEOPLE, REPOSITORY, prepare_repository
from loadtest.bench.cpu import spent
from loadtest.bench.figure import Plan, Sides, experiment, ratio
from loadtest.figures.table import figure

_LOADS: Final = 40


@experiment(figure("artefact_load_vs_session", ratio("ours", "bare")))
def artefact_load(plan: Plan) -> Iterator[Sides]:
    """Promote the demo's model in a repository, and load it each way."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    prepare_repository(DEMO_MODEL, plan.folder)
    people = People.load(plan.folder / PEOPLE)
    repository = ModelRepository(plan.folder / REPOSITORY, people, epoch_ms)
    artefact = repository.load_champion(repository.read())
    manifest, golden = artefact.manifest, artefact.golden
    model = ModelRef(
        name=manifest.name, version=manifest.version, manifest_sha256=artefact.model_hash
    )
    path = str(repository.path_of(model) / manifest.members[0].file)
    row = {"vector": golden.vectors[:1], "sequence": golden.sequences[:1]}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def ours() -> None:
        loaded = repository.load_champion(repository.read())
        first = open_engine(loaded).score(row["vector"], row["sequence"])
        rule = rule_of(loaded.manifest.precision, loaded.manifest.is_alert)
        check_scores(np.asarray(first), loaded.golden.raw_scores[:1], rule)

    def bare() -> None:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(["raw_score"], row)

    count = plan.rows(_LOADS, 3)
    ours()
    bare()
    yield {
        name: partial(spent, partial(_repeat, way, count), count)
        for name, way in (("ours", ours), ("bare", bare))
    }


def _repeat(way: Callable[[], None], count: int) -> None:
    for _ in range(count):
        way()
