"""`python -m loadtest.engines` in small: it runs on what a GPU machine has, and skips by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.processes import PROJECT_FOLDER

pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

REPOSITORY = PROJECT_FOLDER
# Of what this project installs, a GPU machine has PyTorch, ONNX Runtime and NumPy for sure.
ABSENT_THERE = (
    "pydantic",
    "pydantic_settings",
    "numba",
    "sklearn",
    "xgboost",
    "pyarrow",
    "prometheus_client",
    "google.protobuf",
    "grpc",
    "onnx",
    "scipy",
    "pandas",
)
_BARE = f"""
import sys
for name in {ABSENT_THERE!r}:
    sys.modules[name] = None
from loadtest.engines.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
_SMALL = ("--networks", "lstm-2x64", "--rounds", "2", "--slot-ms", "1")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository."""
    return subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, check=False, capture_output=True, text=True
    )


def test_cpu_engines_are_checked_and_timed(tmp_path: Path) -> None:
    """ONNX Runtime against PyTorch eager; the results say on what, by what and when."""
    ran = run("-m", "loadtest.engines", *_SMALL, "--json", str(tmp_path / "out.json"))

    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    network = found["networks"]["lstm-2x64"]
    timed = {engine["name"] for engine in network["engines"] if engine["rows_per_s"]}
    assert timed == {"torch-eager", "onnxruntime-cpu"}
    assert all(network["cpu_best_vs_eager"][batch] > 0 for batch in ("1", "64", "1024"))
    assert found["command"].startswith("python -m loadtest.engines --networks")
    assert {"date", "device", "versions", "roofline", "matmul_tflops"} <= found.keys()


def test_every_engine_is_named_with_the_reason_it_is_missing(tmp_path: Path) -> None:
    """Nobody has to guess whether an engine lost or was not there."""
    run("-c", _BARE, *_SMALL, "--json", str(tmp_path / "out.json"))

    (network,) = json.loads((tmp_path / "out.json").read_text())["networks"].values()
    reasons = {
        (engine["name"], engine["precision"]): engine["skipped"] for engine in network["engines"]
    }
    assert reasons["torch-eager", "fp32"] == ""
    assert "onnx is not installed" in reasons["onnxruntime-cpu", "fp32"]
    assert reasons["tensorrt", "fp16"] == "it is timed with --gpu only"


def test_asking_for_a_gpu_that_is_not_there_says_so() -> None:
    """Exit 69, and no figure is written."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    ran = run("-m", "loadtest.engines", "--gpu")

    assert ran.returncode == 69
    assert "finds no GPU" in ran.stderr


def test_every_compiled_engine_is_compiled_in_every_batch_size() -> None:
    """PyTorch stops compiling a function after some times, and would run the rest eagerly."""
    import torch
    from torch._dynamo.testing import CompileCounter

    from loadtest.engines.networks import sample_rows, subject
    from loadtest.engines.torch_engines import compiled

    torch.compiler.reset()
    network = subject("lstm-2x64").network
    counters = [CompileCounter() for _ in range(3)]
    for counter in counters:
        forward = compiled(network, backend=counter)
        for rows in (1, 8, 64):
            forward(*map(torch.from_numpy, sample_rows(rows, seed=1)))

    counts = {counter.frame_count for counter in counters}
    assert len(counts) == 1
    assert min(counts) >= 3
