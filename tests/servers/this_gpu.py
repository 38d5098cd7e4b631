"""The GPU that tests run on, if there is one."""

from __future__ import annotations

import pytest

from fraudstream.engines.cuda import CudaSession
from fraudstream.engines.engine_kinds import EngineKind
from fraudstream.engines.tensorrt_library import Library, open_library
from fraudstream.errors import EngineFailed


def kind_of_gpu() -> str:
    """Return the kind of the first GPU, such as `SM90`; skip the test where there is none."""
    try:
        session = CudaSession.open()
    except EngineFailed as exc:
        pytest.skip(str(exc))
    major, minor = session.device().compute_capability
    session.close()
    return f"SM{major}{minor}"


def library_here(name: EngineKind) -> Library:
    """Return a TensorRT; skip the test where it is not installed."""
    try:
        return open_library(name)
    except EngineFailed as exc:
        pytest.skip(str(exc))


def builds_for(library: Library, kind: str) -> bool:
    """Return whether a library builds for a GPU: TensorRT-RTX lists those that it knows."""
    return not library.is_rtx or kind in library.module.ComputeCapability.__members__
