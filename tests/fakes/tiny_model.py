"""A small ONNX model and its artefact, made in a moment from fixed weights.

Axes: `B` rows, `T` sequence length, `C` channels, `F` the model's features, `H` hidden units.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fraudstream.engines.golden import GoldenRows
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import Precision, score_rows
from fraudstream.features.catalogue import (
    CATALOGUE,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.models.artefact import Artefact, sign_artefact, write_artefact
from fraudstream.models.calibration import Calibration, Thresholds
from fraudstream.models.manifest import (
    CHANNEL_PREFIX,
    Manifest,
    Member,
    MemberKind,
    ReasonGroup,
    golden_text,
)
from tests.worlds.trust import TRAINER

FloatArray = npt.NDArray[np.float32]

# Another order than the catalogue's, so that a wrong gather gives wrong scores.
FEATURES: Final = (
    "card_count_1h",
    "amount",
    "card_amount_to_mean_30d",
    "is_night",
    "terminal_fraud_share_7d",
    "card_seconds_since_previous",
)
HIDDEN: Final = 24
CHANNELS: Final = len(SEQUENCE_CHANNELS)
_OPSET: Final = 17


@dataclass(frozen=True)
class Weights:
    """Weights in ONNX's layout; gates are in the order input, output, forget, cell."""

    vector_scale: FloatArray  # [F]
    sequence_scale: FloatArray  # [C]
    gates_input: FloatArray  # [1, 4H, C]
    gates_hidden: FloatArray  # [1, 4H, H]
    gates_bias: FloatArray  # [1, 8H]
    head: FloatArray  # [H + F, 1]
    head_bias: FloatArray  # [1]


def tiny_weights(bias: float = 1.0) -> Weights:
    """Return the fixed weights; `bias` moves all scores."""
    random = np.random.default_rng(7)

    def draw(*shape: int) -> FloatArray:
        return (random.standard_normal(shape) * 0.4).astype(np.float32)

    return Weights(
        vector_scale=np.array([0.2, 1e-4, 0.5, 1.0, 2.0, 1e-5], np.float32),
        sequence_scale=np.array([1e-4, 1e-5, 0.3, 0.3, 1e-4, 0.05], np.float32),
        gates_input=draw(1, 4 * HIDDEN, CHANNELS),
        gates_hidden=draw(1, 4 * HIDDEN, HIDDEN),
        gates_bias=draw(1, 8 * HIDDEN),
        head=draw(HIDDEN + len(FEATURES), 1),
        head_bias=np.array([bias], np.float32),
    )


def onnx_bytes(weights: Weights) -> bytes:
    """Return the model as one ONNX file: LSTM over the sequence, beside the vector, one logit."""
    constants: dict[str, npt.NDArray[np.generic]] = {
        "zero": np.zeros((), np.float32),
        "vector_scale": weights.vector_scale,
        "sequence_scale": weights.sequence_scale,
        "W": weights.gates_input,
        "R": weights.gates_hidden,
        "bias": weights.gates_bias,
        "head": weights.head,
        "head_bias": weights.head_bias,
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("IsNaN", ["vector"], ["is_missing"]),
        helper.make_node("Where", ["is_missing", "zero", "vector"], ["filled"]),
        helper.make_node("Mul", ["filled", "vector_scale"], ["scaled"]),
        helper.make_node("Tanh", ["scaled"], ["features"]),
        helper.make_node("Mul", ["sequence", "sequence_scale"], ["steps"]),
        helper.make_node("Transpose", ["steps"], ["steps_first"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["steps_first", "W", "R", "bias"], ["", "last"], hidden_size=HIDDEN
        ),
        helper.make_node("Squeeze", ["last", "first"], ["hidden"]),
        helper.make_node("Concat", ["hidden", "features"], ["joined"], axis=1),
        helper.make_node("Gemm", ["joined", "head", "head_bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
        helper.make_node("Squeeze", ["probability", "second"], ["raw_score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["B", len(FEATURES)]),
            helper.make_tensor_value_info(
                "sequence", TensorProto.FLOAT, ["B", SEQUENCE_LENGTH, CHANNELS]
            ),
        ],
        [helper.make_tensor_value_info("raw_score", TensorProto.FLOAT, ["B"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def some_vectors(rows: int, columns: int = len(FEATURES), seed: int = 1) -> FloatArray:
    """Return float32 [rows, columns] of plausible size, some of them missing."""
    random = np.random.default_rng(seed)
    vectors = (random.lognormal(2.0, 2.0, (rows, columns))).astype(np.float32)
    vectors[random.random((rows, columns)) < 0.1] = np.nan
    return vectors


def some_sequences(rows: int, seed: int = 2) -> FloatArray:
    """Return float32 [rows, T, C]: amounts, ages, small numbers; padded at the front."""
    random = np.random.default_rng(seed)
    sequences = np.zeros((rows, SEQUENCE_LENGTH, CHANNELS), np.float32)
    sequences[:, :, 1] = -1.0
    for row in range(rows):
        steps = int(random.integers(1, SEQUENCE_LENGTH + 1))
        sequences[row, -steps:, 0] = random.integers(100, 90_000, steps)
        sequences[row, -steps:, 1] = np.sort(random.integers(1, 10**6, steps))[::-1]
        sequences[row, -steps:, 2] = random.integers(1, 5, steps)
        sequences[row, -steps:, 3] = random.integers(1, 6, steps)
        sequences[row, -steps:, 4] = random.integers(1000, 9999, steps)
        sequences[row, -steps:, 5] = random.uniform(0, 24, steps)
    sequences[:, -1, 1] = 0.0
    return sequences


def lstm_member(onnx_file: bytes) -> Member:
    """Return a member that is the whole model."""
    return Member(
        name="lstm",
        kind=MemberKind.LSTM,
        file="lstm.onnx",
        sha256=hashlib.sha256(onnx_file).hexdigest(),
        precision=Precision.FP32,
        weight=1.0,
    )


def tiny_artefact(
    folder: Path,
    thresholds: tuple[float, float, float] = (0.25, 0.4, 0.5),
    bias: float = 1.0,
    version: int = 1,
) -> Artefact:
    """Write the tiny model as an artefact, signed, and return it."""
    onnx_file = onnx_bytes(tiny_weights(bias))
    manifest = tiny_manifest(onnx_file, thresholds).model_copy(update={"version": version})
    write_artefact(folder, manifest, {"lstm.onnx": onnx_file})
    return sign_artefact(folder, TRAINER)


def tiny_manifest(
    onnx_file: bytes, thresholds: tuple[float, float, float] = (0.25, 0.4, 0.5)
) -> Manifest:
    """Return the manifest of the tiny model, its golden rows scored by ONNX Runtime."""
    vectors, sequences = some_vectors(40), some_sequences(40)
    scores = score_rows(OnnxEngine(onnx_file), vectors, sequences, 1)
    hashes = {feature.name: f"{feature.hash:016x}" for feature in CATALOGUE}
    channels = {CHANNEL_PREFIX + name: 1.0 for name in SEQUENCE_CHANNELS}
    return Manifest(
        name="tiny",
        version=1,
        created_from=hashlib.sha256(b"fixed weights").hexdigest(),
        members=(lstm_member(onnx_file),),
        bias=0.0,
        feature_hashes=tuple(hashes[name] for name in FEATURES),
        feature_names=FEATURES,
        sequence_hash=SEQUENCE_HASH,
        sequence_length=SEQUENCE_LENGTH,
        sequence_channels=SEQUENCE_CHANNELS,
        opset=_OPSET,
        calibration=Calibration(kind="platt", a=1.0, b=1.0, c=0.0),
        thresholds=Thresholds(challenge=thresholds[0], review=thresholds[1], decline=thresholds[2]),
        reason_baseline={**dict.fromkeys(FEATURES, 0.0), **channels},
        reason_groups=(
            ReasonGroup(code="R01", text="Unusual amount", features=("amount",), channels=()),
            ReasonGroup(
                code="R02", text="Many in an hour", features=("card_count_1h",), channels=()
            ),
            ReasonGroup(
                code="R03",
                text="Unusual times",
                features=("is_night", "card_seconds_since_previous"),
                channels=("local_hour",),
            ),
            ReasonGroup(code="R04", text="Unusual merchants", features=(), channels=("mcc",)),
        ),
        golden=golden_text(GoldenRows(vectors, sequences, scores)),
        metrics={},
    )
