"""Build a TensorRT plan of an ONNX file. Pure: TensorRT-RTX needs no GPU for it.

Networks are strongly typed: the precision is that of the ONNX file (`half.py` makes fp16). Axes:
`B` rows of a batch; all other dimensions are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fraudstream.engines.tensorrt_library import Library, Native, without_noise
from fraudstream.errors import ModelRefused

_WORKSPACE_BYTES: Final = 1 << 30  # the GPU serves while a new engine is built on it


@dataclass(frozen=True, slots=True)
class RowProfile:
    """Batch sizes that one set of kernels serves: from, best at, to."""

    least: int
    best: int
    most: int


# A lone row, a batch that forms under load, a replay. Every GPU bucket lies in exactly one.
ROW_PROFILES: Final = (RowProfile(1, 1, 8), RowProfile(16, 64, 64), RowProfile(128, 1024, 1024))


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a plan.

    Attributes:
        name: As in the ONNX file.
        is_input: Whether it is read.
        dtype: Such as `FLOAT`.
        row_shape: Dimensions after B.
    """

    name: str
    is_input: bool
    dtype: str
    row_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a library built.

    Attributes:
        content: The serialised engine.
        tensors: Its inputs, then its outputs.
        profiles: The batch sizes that it was built for, by number.
    """

    content: bytes
    tensors: tuple[TensorSpec, ...]
    profiles: tuple[RowProfile, ...]


def build_plan(
    library: Library,
    onnx: bytes,
    profiles: Sequence[RowProfile] = ROW_PROFILES,
    compute_capabilities: Sequence[tuple[int, int]] = (),
) -> Plan:
    """Return the plan of an ONNX file.

    Args:
        library: What builds.
        onnx: The file.
        profiles: Batch sizes.
        compute_capabilities: GPUs to build for, TensorRT-RTX only; empty for the present one of
            TensorRT, and for all that TensorRT-RTX supports.

    Raises:
        ModelRefused: `MODEL_PARSE`, `MODEL_PROFILE`, `MODEL_GPU` or `MODEL_BUILD`, with what the
            library said.
    """
    library.complaints.clear()
    builder = library.module.Builder(library.logger)
    network = _parse(library, builder, onnx)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(library.module.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.clear_flag(library.module.BuilderFlag.TF32)  # it rounds fp32 products to 11 bits
    for profile in profiles:
        _add_profile(library, builder, network, config, profile)
    if compute_capabilities:
        _set_compute_capabilities(library, config, compute_capabilities)
    content = builder.build_serialized_network(network, config)
    if content is None:
        msg = f"{library.name} {library.version} cannot build the graph: {library.said()}"
        raise ModelRefused("MODEL_BUILD", msg)
    return Plan(bytes(content), _tensors_of(network), tuple(profiles))


def _parse(library: Library, builder: Native, onnx: bytes) -> Native:
    """Return the network, strongly typed in every version."""
    flag = getattr(library.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = library.module.OnnxParser(network, library.logger)
    if not parser.parse(onnx):
        errors = [parser.get_error(number) for number in range(parser.num_errors)]
        found = [
            f"{error.node_operator()} {error.node_name()}: {without_noise(error.desc())}"
            for error in errors
        ]
        msg = f"{library.name} {library.version} cannot read the graph: {'; '.join(found)}"
        raise ModelRefused("MODEL_PARSE", msg)
    return network


def _add_profile(
    library: Library, builder: Native, network: Native, config: Native, rows: RowProfile
) -> None:
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        row_shape = tuple(tensor.shape)[1:]
        sizes = ((size, *row_shape) for size in (rows.least, rows.best, rows.most))
        profile.set_shape(tensor.name, *sizes)
    if config.add_optimization_profile(profile) < 0:  # no exception, no message
        msg = f"expected a profile of rising batch sizes, found {rows}: {library.said()}"
        raise ModelRefused("MODEL_PROFILE", msg)


def _set_compute_capabilities(
    library: Library, config: Native, wanted: Sequence[tuple[int, int]]
) -> None:
    known = library.module.ComputeCapability.__members__
    config.num_compute_capabilities = len(wanted)
    for number, (major, minor) in enumerate(wanted):
        name = f"SM{major}{minor}"
        if name not in known or not config.set_compute_capability(known[name], number):
            found = [each for each in known if each.startswith("SM")]
            msg = f"{library.name} {library.version} builds for {found}, the GPU is {name}"
            raise ModelRefused("MODEL_GPU", msg)


def _tensors_of(network: Native) -> tuple[TensorSpec, ...]:
    inputs = [(network.get_input(number), True) for number in range(network.num_inputs)]
    outputs = [(network.get_output(number), False) for number in range(network.num_outputs)]
    return tuple(
        TensorSpec(tensor.name, is_input, tensor.dtype.name, tuple(tensor.shape)[1:])
        for tensor, is_input in inputs + outputs
    )
