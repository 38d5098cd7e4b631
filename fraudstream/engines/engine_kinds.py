"""The engines that a setting can name: how each is opened, and where it computes.

Another engine is a file of its own and a row here. No library is imported before it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fraudstream.engines.protocol import Engine, Precision


class EngineKind(StrEnum):
    """What computes the scores."""

    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt_rtx"


FIRST: Final = EngineKind.ONNXRUNTIME
"""Serves from the first row, and what the ordered engine does not."""


@dataclass(frozen=True, slots=True)
class EngineOrder:
    """Which engine is wanted, in which precision, and where it keeps what it builds."""

    kind: EngineKind
    precision: Precision
    cache_folder: Path = Path()

    def open(self, onnx: bytes) -> Engine:
        """Return the engine of an ONNX file; `EngineFailed` or `ModelRefused` says why not."""
        return ENGINES[self.kind].open(onnx, self)


@dataclass(frozen=True, slots=True)
class EngineRow:
    """How an engine is opened for an ONNX file, and whether a CPU computes."""

    open: Callable[[bytes, EngineOrder], Engine]
    is_cpu: bool


def _onnx(onnx: bytes, order: EngineOrder) -> Engine:
    from fraudstream.engines.onnx_engine import OnnxEngine

    return OnnxEngine(onnx, order.precision)


def _tensorrt(onnx: bytes, order: EngineOrder) -> Engine:
    from fraudstream.engines.tensorrt_engine import open_tensorrt

    return open_tensorrt(onnx, order)


ENGINES: Final[Mapping[EngineKind, EngineRow]] = MappingProxyType(
    {
        EngineKind.ONNXRUNTIME: EngineRow(_onnx, is_cpu=True),
        EngineKind.TENSORRT: EngineRow(_tensorrt, is_cpu=False),
        EngineKind.TENSORRT_RTX: EngineRow(_tensorrt, is_cpu=False),
    }
)


def is_of_cpu(version: str) -> bool:
    """Return whether a CPU alone computed what names this version; one `+` joins two engines.

    >>> is_of_cpu("onnxruntime-1.31"), is_of_cpu("tensorrt-10.15-fp32-sm90+onnxruntime-1.31")
    (True, False)
    """
    kinds = {part.partition("-")[0] for part in version.split("+")}
    return all(row.is_cpu for kind, row in ENGINES.items() if kind in kinds)
