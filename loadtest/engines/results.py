"""The results file: what was measured, on what, by which versions, when."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch

from loadtest.engines.contest import BATCHES, Entry, best_speed, best_vs_eager
from loadtest.engines.networks import Subject
from loadtest.engines.roofline import FORMULA, flops_per_row
from loadtest.engines.timing import Effort

_PACKAGES: Final = (
    *("numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu"),
    *("tensorrt-cu13", "tensorrt-rtx-cu13-libs", "cuda-bindings", "triton"),
)
_CPU_FILE: Final = Path("/proc/cpuinfo")
_NOTE: Final = (
    "rows/s from NumPy arrays to NumPy arrays, copies included; engines interleaved, median "
    "[lowest, highest] of the rounds. best_vs_eager: the fastest engine / PyTorch eager in the "
    "faster of fp32 and fp16. fp32 is exact: TF32 is off."
)


def header(effort: Effort, matmul_flops: float, *, is_gpu: bool) -> dict[str, Any]:
    """Return what is true of the whole run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m loadtest.engines", *sys.argv[1:]]),
        "device": _gpu() if is_gpu else {"kind": "cpu", "name": _cpu_name()},
        "versions": _versions(),
        "rounds": effort.rounds,
        "slot_s": effort.slot_s,
        "how": _NOTE,
        "roofline": FORMULA,
        "matmul_tflops": matmul_flops / 1e12,
    }


def of_network(
    subject: Subject, entries: Sequence[Entry], matmul_flops: float, *, is_gpu: bool
) -> dict[str, Any]:
    """Return the results of one network."""
    kind, flops = "gpu" if is_gpu else "cpu", flops_per_row(subject)
    return {
        "flops_per_row": flops,
        "roofline_rows_per_s": matmul_flops / flops,
        "engines": [_of_entry(entry) for entry in entries],
        f"{kind}_best_vs_eager": {str(size): best_vs_eager(entries, size) for size in BATCHES},
        f"{kind}_vs_roofline": {
            str(size): best_speed(entries, size) * flops / matmul_flops for size in BATCHES
        },
    }


def table(name: str, found: Mapping[str, Any]) -> str:
    """Return the results of one network as lines for people."""
    lines = [f"{name}, {found['flops_per_row'] / 1e6:.2f} MFLOP/row; rows/s at {BATCHES}:"]
    for engine in found["engines"]:
        speeds = [f"{speed['median']:>11,.0f}" for speed in engine["rows_per_s"].values()]
        told = " ".join(speeds) or f"skipped: {engine['skipped']}"
        lines.append(f"  {engine['name']:<27}{engine['precision']:<6}{told}")
    ratios = {key: value for key, value in found.items() if "_vs_" in key}
    return "\n".join([*lines, f"  {ratios}"])


def _of_entry(entry: Entry) -> dict[str, Any]:
    speeds = {str(size): asdict(speed) for size, speed in entry.speeds.items()}
    return {
        "name": entry.name,
        "precision": str(entry.precision),
        "skipped": entry.skipped,
        "version": entry.version,
        "open_s": round(entry.open_s, 3),
        "golden_worst": None if entry.golden_worst != entry.golden_worst else entry.golden_worst,
        "rows_per_s": speeds,
    }


def _gpu() -> dict[str, Any]:
    found = torch.cuda.get_device_properties(0)
    return {
        "kind": "gpu",
        "name": found.name,
        "compute_capability": f"{found.major}.{found.minor}",
        "memory_bytes": found.total_memory,
        "cuda": torch.version.cuda,
        "host": _cpu_name(),
    }


def _cpu_name() -> str:
    lines = _CPU_FILE.read_text().splitlines() if _CPU_FILE.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
