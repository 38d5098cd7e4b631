"""From the settings of the service to the engine that serves."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from fraudstream.artefact import read_artefact
from fraudstream.engines.protocol import Engine, Precision
from fraudstream.engines.tensorrt_engine import EngineOrder
from fraudstream.engines.tensorrt_library import LibraryName
from fraudstream.errors import ModelRefused
from fraudstream.manifest import MemberKind
from fraudstream.model_repository import ModelRepository
from services.scoring.build import clock_ms
from services.scoring.gpu import open_gpu
from services.scoring.model import ModelSource
from services.scoring.settings import EngineChoice, ScoringSettings
from tests.tiny_model import some_sequences, some_vectors, tiny_artefact
from tests.trust import BUDGET, PEOPLE, served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny artefact."""
    tiny_artefact(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def repository(folder: Path) -> ModelRepository:
    """A repository in which it is champion."""
    return ModelRepository(Path(served(folder)["model"]), PEOPLE, clock_ms)


def test_cpu_engine_serves_by_default(repository: ModelRepository) -> None:
    """A laptop needs no GPU, and nothing is marked as a fallback."""
    _, engine = ModelSource(repository, BUDGET, None).load_champion()

    assert ScoringSettings.read().engine is EngineChoice.ONNXRUNTIME
    assert engine.version.startswith("onnxruntime-")
    assert not engine.version.endswith("+fallback")


@pytest.mark.parametrize("library", list(LibraryName))
def test_ordered_gpu_that_is_not_there_is_served_by_the_cpu_and_alarms(
    repository: ModelRepository,
    tmp_path: Path,
    library: LibraryName,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Decisions go on, each says that it is a fallback, and the gauge is 1."""
    order = EngineOrder(library, Precision.FP32, tmp_path / "engines")
    with caplog.at_level(logging.ERROR):
        _, engine = ModelSource(repository, BUDGET, None, order).load_champion()
        scores = engine.score(some_vectors(8), some_sequences(8))
        during = REGISTRY.get_sample_value("fraud_engine_fallback")
        _close(engine)

    assert len(scores) == 8
    assert during == 1
    assert REGISTRY.get_sample_value("fraud_engine_fallback") == 0
    assert "does not open, it is tried again: LIBRARY_ABSENT" in caplog.text


def _close(engine: Engine) -> None:
    assert engine.version.endswith("+fallback")
    engine.close()


def test_model_without_a_network_is_not_for_a_gpu(folder: Path, tmp_path: Path) -> None:
    """Trees stay with ONNX Runtime: the order is refused, not tried again and again."""
    artefact = read_artefact(folder)
    (member,) = artefact.manifest.members
    trees = member.model_copy(update={"kind": MemberKind.BOOSTING})
    manifest = artefact.manifest.model_copy(update={"members": (trees,)})
    order = EngineOrder(LibraryName.TENSORRT, Precision.FP32, tmp_path / "engines")

    with pytest.raises(ModelRefused, match="MODEL_GPU: no member is a network in fp32"):
        open_gpu(replace(artefact, manifest=manifest), order)
