"""An artefact on a GPU: neural members by TensorRT, the others beside them on the CPU."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from fraudstream.engines.golden import check_golden, rule_of
from fraudstream.engines.members import MembersEngine
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import Engine, Precision
from fraudstream.engines.tensorrt_engine import EngineOrder, open_tensorrt
from fraudstream.errors import ModelRefused
from fraudstream.models.artefact import Artefact
from fraudstream.models.manifest import Member, MemberKind

_NEURAL: Final = frozenset({MemberKind.LSTM, MemberKind.TRANSFORMER})


def open_gpu(artefact: Artefact, order: EngineOrder) -> Engine:
    """Return an artefact's engine on the GPU, held to its golden rows and warm.

    Raises:
        EngineFailed: It cannot be opened now.
        ModelRefused: It cannot serve this model.
    """
    manifest = artefact.manifest
    if not any(_is_for_gpu(member) for member in manifest.members):
        raise ModelRefused("MODEL_GPU", "no member is a network in fp32: a GPU has nothing to do")
    with ExitStack() as opened:
        engines: list[Engine] = []
        for file, member in zip(artefact.files, manifest.members, strict=True):
            on_gpu = _is_for_gpu(member)
            engine: Engine = (
                open_tensorrt(file, order) if on_gpu else OnnxEngine(file, member.precision)
            )
            opened.callback(engine.close)
            engines.append(engine)
        engine = MembersEngine(engines, manifest.formula)
        coarsest = max(manifest.precision, order.precision, key=list(Precision).index)
        check_golden(engine, artefact.golden, rule_of(coarsest, manifest.is_alert))
        opened.pop_all()
    return engine


def _is_for_gpu(member: Member) -> bool:
    """Return whether TensorRT computes a member: trees and int8 stay with ONNX Runtime."""
    return member.kind in _NEURAL and member.precision is Precision.FP32
