"""Make a recorded decision again from what it recorded, and find the first difference. Pure.

On the processor class and the engine version that the decision names its score is the same to the
bit. Elsewhere two libraries or kernels add in another order, and a bound is stated.
Axes: `F` the model's features, `T` sequence length, `C` channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from fraudstream.engines.engine_kinds import is_of_cpu
from fraudstream.engines.fallback import FALLBACK_MARK
from fraudstream.engines.protocol import Engine, Precision, pad_rows
from fraudstream.features.catalogue import FEATURE_HASHES, SEQUENCE_CHANNELS, SEQUENCE_LENGTH
from fraudstream.models.artefact import Artefact
from fraudstream.transaction.identity import decision_id_of, digest_of, identity_of
from fraudstream.v1.decision_pb2 import Action, Decision
from services.scoring.decision.verdict import action_of
from services.scoring.inference.model_source import served_model
from services.scoring.inference.served_model import find_columns

TO_THE_BIT: Final = 0.0
# Two CPUs in fp32: 32 steps of an LSTM added up in another order were off by 3e-7 at most.
CPU_BOUND: Final = 1e-6
# As an engine in fp32 on a GPU is held to its golden rows; and one in fp16 or int8.
GPU_BOUND: Final = 1e-5
COARSE_BOUND: Final = 5e-4


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that came out otherwise.

    Attributes:
        field: What.
        recorded: As the decision says.
        rebuilt: As it came out now.
    """

    field: str
    recorded: str
    rebuilt: str

    def __str__(self) -> str:
        """Return it as the command prints it."""
        return f"{self.field}: recorded {self.recorded}, rebuilt {self.rebuilt}"


@dataclass(frozen=True, slots=True)
class ScoreReplay:
    """A score made again.

    Attributes:
        bound: How far it may be off; `TO_THE_BIT` for not at all.
        why: What the bound rests on.
        differences: Empty where it holds.
        action: What the score asks for, before any rule.
    """

    bound: float
    why: str
    differences: tuple[Difference, ...]
    action: Action


def identity_differences(decision: Decision) -> Iterator[Difference]:
    """Yield what a decision says of its transaction that does not follow from it."""
    transaction = decision.transaction
    names = (transaction.bank_id, transaction.card_token, transaction.transaction_id)
    made = decision_id_of(identity_of(*names))
    if made != decision.decision_id:
        yield Difference("decision_id", decision.decision_id, made)
    digest = digest_of(transaction)
    if digest != decision.digest:
        yield Difference("digest", decision.digest.hex(), digest.hex())


def replay_score(
    decision: Decision, artefact: Artefact, engine: Engine, cpu_class: str
) -> ScoreReplay:
    """Score what a decision recorded with its model, in a batch of the same size.

    Args:
        decision: Made by that model, with a vector of this release's catalogue.
        artefact: The model.
        engine: Of it, on this CPU.
        cpu_class: Of this CPU.
    """
    model = served_model(artefact)
    columns = find_columns(model, FEATURE_HASHES)
    vector = np.frombuffer(decision.vector, "<f4")[columns].reshape(1, -1)  # [1, F]
    shape = (1, SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS))
    sequence = np.frombuffer(decision.sequence, "<f4").reshape(shape)  # [1, T, C]
    bucket = min(decision.batch_bucket, engine.buckets[-1])
    raw_scores = engine.score(pad_rows(vector, bucket), pad_rows(sequence, bucket))[:1]
    scored = model.scores(raw_scores)
    raw_score, score = float(scored.raw_scores[0]), float(scored.scores[0])
    bound, why = _bound_of(decision, artefact, engine.version, cpu_class)
    found = []
    for field, recorded, rebuilt in (
        ("raw_score", decision.raw_score, raw_score),
        ("score", decision.score, score),
    ):
        if not abs(recorded - rebuilt) <= bound:  # so for NaN too
            found.append(Difference(field, repr(recorded), repr(rebuilt)))
    return ScoreReplay(bound, why, tuple(found), action_of(score, model.thresholds))


def action_differences(decision: Decision, action: Action) -> Iterator[Difference]:
    """Yield that another action came out now."""
    if action != decision.action:
        yield Difference("action", Action.Name(decision.action), Action.Name(action))


def _bound_of(
    decision: Decision, artefact: Artefact, version: str, cpu_class: str
) -> tuple[float, str]:
    recorded = decision.engine_version.removesuffix(FALLBACK_MARK)
    if (recorded, decision.cpu_class) == (version, cpu_class):
        return TO_THE_BIT, "the same engine and processor class"
    there = f"{recorded} on {decision.cpu_class} there, {version} on {cpu_class} here"
    precision = artefact.manifest.precision
    if precision is not Precision.FP32 or Precision.FP16 in recorded:
        return COARSE_BOUND, f"{precision}: {there}"
    if not is_of_cpu(recorded):
        return GPU_BOUND, f"a GPU in fp32: {there}"
    return CPU_BOUND, f"another CPU engine: {there}"
