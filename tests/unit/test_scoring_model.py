"""From the settings of the service to the engine that serves."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from fraudstream.engines.protocol import Engine, Precision
from fraudstream.engines.tensorrt_engine import EngineOrder
from fraudstream.engines.tensorrt_library import LibraryName
from services.scoring.model import load_model
from services.scoring.settings import EngineChoice, ScoringSettings
from tests.tiny_model import some_sequences, some_vectors, tiny_artefact


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny artefact."""
    tiny_artefact(tmp_path / "model")
    return tmp_path / "model"


def test_cpu_engine_serves_by_default(folder: Path) -> None:
    """A laptop needs no GPU, and nothing is marked as a fallback."""
    _, engine = load_model(folder)

    assert ScoringSettings().engine is EngineChoice.ONNXRUNTIME
    assert engine.version.startswith("onnxruntime-")
    assert not engine.version.endswith("+fallback")


@pytest.mark.parametrize("library", list(LibraryName))
def test_ordered_gpu_that_is_not_there_is_served_by_the_cpu_and_alarms(
    folder: Path, tmp_path: Path, library: LibraryName, caplog: pytest.LogCaptureFixture
) -> None:
    """Decisions go on, each says that it is a fallback, and the gauge is 1."""
    order = EngineOrder(library, Precision.FP32, tmp_path / "engines")
    with caplog.at_level(logging.ERROR):
        _, engine = load_model(folder, order)
        scores = engine.score(some_vectors(8), some_sequences(8))
        _close(engine)

    assert len(scores) == 8
    assert REGISTRY.get_sample_value("fraud_engine_fallback") == 1
    assert "does not open, it is tried again: LIBRARY_ABSENT" in caplog.text


def _close(engine: Engine) -> None:
    assert engine.version.endswith("+fallback")
    engine.close()
