"""Every network compiles for every GPU ahead of time, and what cannot be built says why.

TensorRT-RTX compiles without a GPU; its parser is that of TensorRT 11.
"""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from fraudstream.engines.engine_kinds import EngineKind
from fraudstream.engines.half import to_half  # after the skips
from fraudstream.engines.protocol import GPU_BUCKETS, Precision
from fraudstream.engines.tensorrt_build import (
    ROW_PROFILES,
    Plan,
    RowProfile,
    build_plan,
)
from fraudstream.engines.tensorrt_library import open_library
from fraudstream.errors import EngineFailed, ModelRefused
from loadtest.engines.networks import SHAPES, subject

AMPERE_TO_BLACKWELL = ((8, 0), (8, 6), (8, 9), (12, 0))
TURING = ((7, 5),)
BITS = {(7, 5): 1, (8, 0): 2, (8, 6): 4, (8, 9): 8, (12, 0): 16}
H, T = 8, 4
_PRINT_DIGEST = """
import hashlib, pathlib, sys
from fraudstream.engines.tensorrt_build import build_plan
from fraudstream.engines.engine_kinds import EngineKind
from fraudstream.engines.tensorrt_library import open_library
onnx = pathlib.Path(sys.argv[1]).read_bytes()
plan = build_plan(open_library(EngineKind.TENSORRT_RTX), onnx, compute_capabilities=((8, 6),))
print(hashlib.sha256(plan.content).hexdigest())
"""
NETWORKS = pytest.mark.parametrize("name", list(SHAPES))


@pytest.fixture(scope="module")
def files() -> dict[tuple[str, Precision], bytes]:
    """The ONNX file of each network in each precision."""
    found = {}
    for name in SHAPES:
        file = subject(name).onnx()
        found[name, Precision.FP32], found[name, Precision.FP16] = file, to_half(file)
    return found


def built(
    file: bytes,
    gpus: Sequence[tuple[int, int]] = ((8, 6),),
    profiles: Sequence[RowProfile] = ROW_PROFILES,
) -> Plan:
    """Return the plan that TensorRT-RTX builds."""
    return build_plan(open_library(EngineKind.TENSORRT_RTX), file, profiles, gpus)


@NETWORKS
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_network_compiles_for_every_gpu(
    files: dict[tuple[str, Precision], bytes], name: str, precision: Precision
) -> None:
    """With the profiles that serve; the header names library, version and GPUs."""
    plan = built(files[name, precision], AMPERE_TO_BLACKWELL)

    version = tuple(int(part) for part in open_library(EngineKind.TENSORRT_RTX).version.split("."))
    assert plan.content[:4] == b"vtrt"
    assert tuple(plan.content[24:28]) == version
    assert struct.unpack_from("<Q", plan.content, 32)[0] == sum(
        BITS[gpu] for gpu in AMPERE_TO_BLACKWELL
    )


@NETWORKS
def test_half_precision_compiles_for_turing(
    files: dict[tuple[str, Precision], bytes], name: str
) -> None:
    """A T4 multiplies fp16 only."""
    plan = built(files[name, Precision.FP16], TURING)

    assert struct.unpack_from("<Q", plan.content, 32)[0] == BITS[TURING[0]]


def test_full_precision_on_turing_is_a_named_error(
    files: dict[tuple[str, Precision], bytes],
) -> None:
    """The library's own words are in ours."""
    with pytest.raises(ModelRefused, match=r"MODEL_BUILD.*FP32 GEMM is not supported"):
        built(files["lstm-2x64", Precision.FP32], TURING)


@pytest.mark.parametrize("name", ["lstm-2x64", "transformer-2x64"])
def test_same_file_gives_the_same_plan(
    files: dict[tuple[str, Precision], bytes], name: str, tmp_path: Path
) -> None:
    """Byte for byte in any process, but for the first plan after a build that failed."""
    file = tmp_path / "half.onnx"
    file.write_bytes(files[name, Precision.FP16])

    digests = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_DIGEST, str(file)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    }

    assert len(digests) == 1


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_plan_has_the_tensors_of_a_scoring_model(
    files: dict[tuple[str, Precision], bytes], precision: Precision
) -> None:
    """Inputs and output stay fp32 whatever lies between."""
    plan = built(files["lstm-2x64", precision])

    assert [(tensor.name, tensor.is_input, tensor.dtype) for tensor in plan.tensors] == [
        ("vector", True, "FLOAT"),
        ("sequence", True, "FLOAT"),
        ("raw_score", False, "FLOAT"),
    ]


def test_each_bucket_lies_in_exactly_one_profile() -> None:
    """A batch has one set of kernels, the same each time."""
    held = [
        sum(profile.least <= bucket <= profile.most for profile in ROW_PROFILES)
        for bucket in GPU_BUCKETS
    ]

    assert held == [1] * len(GPU_BUCKETS)


def model_of(
    nodes: list[onnx.NodeProto],
    kind: int = TensorProto.FLOAT,
    constants: Sequence[onnx.TensorProto] = (),
    domains: Sequence[str] = ("",),
) -> bytes:
    """Return an ONNX file from `rows` [B, T] or [B, T, H] to `out`."""
    is_recurrent = any(node.op_type == "LSTM" for node in nodes)
    shape: list[str | int] = ["B", T, H] if is_recurrent else ["B", T]
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("rows", kind, shape)],
        [helper.make_tensor_value_info("out", kind, None)],
        list(constants),
    )
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def lstm_with_lengths() -> bytes:
    """Return an fp16 LSTM that is told how long each sequence is."""
    weights: dict[str, NDArray[Any]] = {
        "W": np.ones((1, 4 * H, H), np.float16),
        "R": np.ones((1, 4 * H, H), np.float16),
        "lengths": np.array([T, T], np.int32),
    }
    nodes = [
        helper.make_node("Transpose", ["rows"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "W", "R", "", "lengths"], ["out"], hidden_size=H),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    return model_of(nodes, TensorProto.FLOAT16, constants)


def mixed_operands() -> bytes:
    """Return a product of an fp32 input and an fp16 weight."""
    weight = numpy_helper.from_array(np.ones((T, 1), np.float16), "weight")
    return model_of([helper.make_node("MatMul", ["rows", "weight"], ["out"])], constants=[weight])


def of_one_node(operator: str, domain: str = "") -> bytes:
    """Return a file with one node."""
    domains = ("", domain) if domain else ("",)
    return model_of([helper.make_node(operator, ["rows"], ["out"], domain=domain)], domains=domains)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (of_one_node("NonZero"), "MODEL_(PARSE|BUILD): .*NonZero"),
        (of_one_node("Unique"), "MODEL_PARSE: .*Unique"),
        (of_one_node("Score", "bank.example"), "MODEL_PARSE: .*Score"),
        (mixed_operands(), "MODEL_PARSE: .*MatMul.*must have same input types.*Float.*Half"),
        (lstm_with_lengths(), "MODEL_PARSE: .*LSTM.*Half and Float"),
        (b"no model", "MODEL_PARSE: .*"),
    ],
    ids=["NonZero", "Unique", "custom domain", "mixed operands", "LSTM lengths", "no ONNX"],
)
def test_graph_that_cannot_be_built_is_a_named_error(file: bytes, message: str) -> None:
    """The operator and the parser's words are in the message, without its noise."""
    with pytest.raises(ModelRefused, match=message) as refusal:
        built(file, profiles=(RowProfile(1, 1, 1),))

    assert "cudaError" not in str(refusal.value)


def test_profile_that_does_not_rise_is_a_named_error(
    files: dict[tuple[str, Precision], bytes],
) -> None:
    """The library itself only returns -1."""
    with pytest.raises(ModelRefused, match="MODEL_PROFILE: expected a profile of rising"):
        built(files["lstm-2x64", Precision.FP32], profiles=(RowProfile(64, 8, 1),))


def test_no_profile_is_a_named_error(files: dict[tuple[str, Precision], bytes]) -> None:
    """An open batch needs one."""
    with pytest.raises(ModelRefused, match=r"MODEL_BUILD: .*no optimization profile"):
        built(files["lstm-2x64", Precision.FP32], profiles=())


def test_gpu_that_the_library_does_not_know_is_a_named_error(
    files: dict[tuple[str, Precision], bytes],
) -> None:
    """TensorRT-RTX lists no H100: that is said before anything is built."""
    with pytest.raises(ModelRefused, match=r"MODEL_GPU: .*SM80.*the GPU is SM90"):
        built(files["lstm-2x64", Precision.FP32], ((9, 0),))


def test_full_library_that_is_missing_is_a_named_error() -> None:
    """It says which package it needs; there is no wheel of it without NVIDIA's own index."""
    if importlib.util.find_spec("tensorrt"):
        pytest.skip("TensorRT is installed")
    with pytest.raises(EngineFailed, match="LIBRARY_ABSENT: expected the package tensorrt"):
        open_library(EngineKind.TENSORRT)
