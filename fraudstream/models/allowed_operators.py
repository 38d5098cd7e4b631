"""Which operators may stand in a member's graph, and what must go in and come out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fraudstream.engines.protocol import Precision
from fraudstream.errors import ModelRefused
from fraudstream.models.manifest import Manifest, Member, MemberKind
from fraudstream.models.onnx_reader import DeclaredTensor, OnnxDeclared

# What our graphs are made of, and what both ONNX Runtime and TensorRT compute.
_NAMES: Final = (
    "Abs Add And Cast Clip Concat Constant ConstantOfShape Cos Div Equal Erf Exp Expand Flatten "
    "Gather GatherElements GatherND Gemm Greater GreaterOrEqual Identity IsNaN LayerNormalization "
    "LSTM Less LessOrEqual Log MatMul Max Min Mod Mul Neg Not Or Pad Pow ReduceMax ReduceMean "
    "ReduceMin ReduceSum Relu Reshape Shape Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt "
    "Squeeze Sub Tanh Transpose Unsqueeze Where"
)
KNOWN_OPERATORS: Final = frozenset(_NAMES.split())
_TREES: Final = "ai.onnx.ml"
_TREE_OPERATORS: Final = frozenset(
    f"{_TREES}::{name}"
    for name in ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor")
)
_QUANTISED: Final = "com.microsoft"
_QUANTISED_OPERATORS: Final = frozenset(
    ("DynamicQuantizeLinear", "MatMulInteger", f"{_QUANTISED}::DynamicQuantizeLSTM")
)
# Newest version of each further domain that ONNX Runtime 1.31 computes.
_NEWEST: Final[Mapping[str, int]] = MappingProxyType({_TREES: 5, _QUANTISED: 1})

# As many float32 as the largest file may hold; weights that are declared but not there still cost
# memory once a runtime makes room for them.
MAX_ELEMENTS: Final = 16 << 20
# The demo's LSTM has 173. What a runtime does while it loads grows with their square: 20,000 are
# not loaded in a minute.
MAX_NODES: Final = 4_000
_FLOAT: Final = 1  # TensorProto.FLOAT


def check_graph(declared: OnnxDeclared, member: Member, manifest: Manifest) -> None:
    """Compare what a member's file declares with what its manifest and the platform promise.

    Raises:
        ModelRefused: `MODEL_EXTERNAL` for weights in other files, `MODEL_SIZE` for weights that no
            file can hold or too many nodes, `MODEL_OPS` for operators, domains and versions that
            are not known, and `MODEL_CONTRACT` for other inputs or outputs.
    """
    if declared.has_external:
        raise _refused("EXTERNAL", member, "expected one ONNX file, found tensors in other files")
    if declared.most_elements > MAX_ELEMENTS:
        found = f"a tensor of {declared.most_elements} numbers"
        raise _refused("SIZE", member, f"expected at most {MAX_ELEMENTS}, found {found}")
    if declared.nodes > MAX_NODES:
        raise _refused(
            "SIZE", member, f"expected at most {MAX_NODES} nodes, found {declared.nodes}"
        )
    _check_operators(declared, member, manifest.opset)
    _check_tensors(declared, member, manifest)


def _check_operators(declared: OnnxDeclared, member: Member, opset: int) -> None:
    if declared.has_subgraphs:
        raise _refused("OPS", member, "expected a plain graph, found subgraphs or functions")
    known, domains = KNOWN_OPERATORS, {"": opset}
    if member.kind is MemberKind.BOOSTING:
        known, domains = known | _TREE_OPERATORS, domains | {_TREES: _NEWEST[_TREES]}
    if member.precision is Precision.INT8:
        known, domains = known | _QUANTISED_OPERATORS, domains | {_QUANTISED: _NEWEST[_QUANTISED]}
    unknown = sorted(declared.operators - known)
    if unknown:
        what = f"{member.kind} in {member.precision}"
        raise _refused("OPS", member, f"operators {unknown[:5]} are not known in {what}")
    is_known = all(version <= domains.get(domain, 0) for domain, version in declared.opsets.items())
    if declared.opsets.get("") != opset or not is_known:
        msg = f"expected ONNX's own opset {opset} and at most {domains}, found {declared.opsets}"
        raise _refused("OPS", member, msg)


def _check_tensors(declared: OnnxDeclared, member: Member, manifest: Manifest) -> None:
    steps, channels = manifest.sequence_length, len(manifest.sequence_channels)
    expected = {
        "vector": (len(manifest.feature_hashes),),
        "sequence": (steps, channels),
        "raw_score": (),
    }
    tensors = declared.inputs + declared.outputs
    named = {tensor.name: tensor for tensor in tensors}
    if len(tensors) != len(expected) or named.keys() != expected.keys():
        msg = f"expected inputs vector and sequence, output raw_score, found {sorted(named)[:5]}"
        raise _refused("CONTRACT", member, msg)
    for name, shape in expected.items():
        if not _fits(named[name], shape):
            msg = f"expected {name} float32 [batch, {shape}], found {named[name]}"
            raise _refused("CONTRACT", member, msg)
    if {tensor.name for tensor in declared.outputs} != {"raw_score"}:
        raise _refused("CONTRACT", member, "expected the one output raw_score")


def _fits(tensor: DeclaredTensor, row_shape: tuple[int, ...]) -> bool:
    return tensor.element_type == _FLOAT and tensor.dimensions == (-1, *row_shape)


def _refused(reason: str, member: Member, message: str) -> ModelRefused:
    return ModelRefused(f"MODEL_{reason}", f"{member.file}: {message}")
