"""An artefact's LSTM members in int8: the same promises, golden rows and calibration."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from fraudstream.engines.protocol import FloatArray, Precision
from fraudstream.errors import ModelRefused
from fraudstream.models.artefact import Artefact, write_artefact
from fraudstream.models.manifest import Manifest, Member, MemberKind
from fraudstream.models.open_engine import Budget, ready_engine
from training.compression.comparison import Comparison, compare
from training.compression.quantise import outer_inputs, quantise_lstm, with_outputs
from training.dataset import Examples

MOST_AP_LOST: Final = 0.002
# Beyond what was seen, so that a row a little further out is not cut; the rest costs resolution.
_MARGIN: Final = 1.25
_NO_BUDGET: Final = Budget(batch_ms=float("inf"), growth_bytes=1 << 62)


def make_int8(
    artefact: Artefact, out: Path, seen: Examples, unseen: Examples
) -> tuple[Artefact, Comparison]:
    """Write an artefact with its LSTM members in int8, and measure it.

    Args:
        artefact: In fp32.
        out: Folder of the new one.
        seen: Rows whose values the model has to bear; they set the bounds of the inputs.
        unseen: Rows that it is measured on.

    Raises:
        ModelRefused: `MODEL_OPS`: it has no LSTM in fp32; `MODEL_GOLDEN`: the golden rows give
            other alerts; `MODEL_GATE`: it loses more AP than 0.002.
    """
    members, files = [], {}
    for member, content in zip(artefact.manifest.members, artefact.files, strict=True):
        made = _in_int8(member, content, seen)
        members.append(made[0])
        files[made[0].file] = made[1]
    if tuple(members) == artefact.manifest.members:
        raise ModelRefused("MODEL_OPS", "expected an LSTM in fp32 to quantise, found none")
    manifest = artefact.manifest.model_copy(
        update={"name": f"{artefact.manifest.name}-int8", "members": tuple(members)}
    )
    with tempfile.TemporaryDirectory() as tried:  # what is refused below is nowhere to be signed
        made_int8 = write_artefact(Path(tried), manifest, files)
    ready_engine(made_int8, _NO_BUDGET)
    found = compare({"fp32": artefact, "int8": made_int8}, unseen)
    lost = found.ap["fp32"] - found.ap["int8"]
    if lost > MOST_AP_LOST:
        msg = f"int8 loses {lost:.4f} of AP, at most {MOST_AP_LOST} is expected"
        raise ModelRefused("MODEL_GATE", msg)
    return write_artefact(out, _with_metrics(manifest, found), files), found


def _in_int8(member: Member, content: bytes, seen: Examples) -> tuple[Member, bytes]:
    if member.kind is not MemberKind.LSTM or member.precision is not Precision.FP32:
        return member, content
    quantised = quantise_lstm(content, input_bounds(content, seen))
    changed = {
        "sha256": hashlib.sha256(quantised).hexdigest(),
        "precision": Precision.INT8,
        "file": f"{member.name}-int8.onnx",
    }
    return member.model_copy(update=changed), quantised


def input_bounds(content: bytes, seen: Examples) -> dict[str, FloatArray]:
    """Return the largest magnitude that each input of an outer LSTM layer has on some rows."""
    names = outer_inputs(content)
    session = onnxruntime.InferenceSession(
        with_outputs(content, names), providers=["CPUExecutionProvider"]
    )
    rows = {"vector": seen.vectors, "sequence": seen.sequences}
    found = [np.asarray(values) for values in session.run(names, rows)]  # each [T, B, D]
    return {
        name: (np.abs(values).max(axis=(0, 1)) * _MARGIN).astype(np.float32)  # [D]
        for name, values in zip(names, found, strict=True)
    }


def _with_metrics(manifest: Manifest, found: Comparison) -> Manifest:
    metrics = {
        "int8_ap_lost": round(found.ap["fp32"] - found.ap["int8"], 6),
        **{f"int8_same_{action}": round(x, 6) for action, x in found.agreement.items()},
    }
    return manifest.model_copy(update={"metrics": {**manifest.metrics, **metrics}})
