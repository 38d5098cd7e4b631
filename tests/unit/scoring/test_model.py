"""From the settings of the service to the engine that serves."""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from fraudstream.engines.engine_kinds import EngineKind, EngineOrder
from fraudstream.engines.protocol import Engine, Precision
from fraudstream.engines.tensorrt_library import TENSORRTS
from fraudstream.errors import ModelRefused
from fraudstream.models.artefact import read_artefact, sign_artefact, write_artefact
from fraudstream.models.manifest import MemberKind
from fraudstream.models.open_engine import open_ordered
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms
from services.scoring.inference.model_source import ModelSource
from services.scoring.settings import ScoringSettings
from tests.fakes.tiny_model import (
    onnx_bytes,
    some_sequences,
    some_vectors,
    tiny_artefact,
    tiny_manifest,
    tiny_weights,
)
from tests.worlds.trust import BUDGET, PEOPLE, TRAINER, served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny artefact."""
    tiny_artefact(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def repository(folder: Path) -> ModelRepository:
    """A repository in which it is champion."""
    return ModelRepository(Path(served(folder)["model"]), PEOPLE, epoch_ms)


def test_cpu_engine_serves_by_default(repository: ModelRepository) -> None:
    """A laptop needs no GPU, and nothing is marked as a fallback."""
    _, engine = ModelSource(repository, BUDGET, None).load_champion()

    assert ScoringSettings.read().engine is EngineKind.ONNXRUNTIME
    assert engine.version.startswith("onnxruntime-")
    assert not engine.version.endswith("+fallback")


def test_model_of_amounts_in_another_currency_is_refused(tmp_path: Path) -> None:
    """Every amount that it reads would be off by the rate; one that says none is taken."""
    onnx_file = onnx_bytes(tiny_weights())
    manifest = tiny_manifest(onnx_file).model_copy(update={"reference_currency": "USD"})
    write_artefact(tmp_path / "model", manifest, {"lstm.onnx": onnx_file})
    sign_artefact(tmp_path / "model", TRAINER)
    repository = ModelRepository(Path(served(tmp_path / "model")["model"]), PEOPLE, epoch_ms)

    ModelSource(repository, BUDGET, reference_currency="USD").load_champion()
    with pytest.raises(ModelRefused, match=r"MODEL_CURRENCY: expected .* in EUR, .* found one"):
        ModelSource(repository, BUDGET, reference_currency="EUR").load_champion()


@pytest.mark.parametrize("library", TENSORRTS)
def test_ordered_gpu_that_is_not_there_is_served_by_the_cpu_and_alarms(
    repository: ModelRepository,
    tmp_path: Path,
    library: EngineKind,
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
    told = re.search(r"cannot open the configured GPU engine, will retry: (\w+)", caplog.text)
    assert told is not None
    # PyTorch's default build brings cuda-bindings: then what is missing first is the GPU.
    has_bindings = importlib.util.find_spec("cuda") is not None
    assert told[1] in ({"LIBRARY_ABSENT", "GPU_ABSENT"} if has_bindings else {"LIBRARY_ABSENT"})


def _close(engine: Engine) -> None:
    assert engine.version.endswith("+fallback")
    engine.close()


def test_model_without_a_network_is_not_for_a_gpu(folder: Path, tmp_path: Path) -> None:
    """Trees stay with ONNX Runtime: the order is refused, not tried again and again."""
    artefact = read_artefact(folder)
    (member,) = artefact.manifest.members
    trees = member.model_copy(update={"kind": MemberKind.BOOSTING})
    manifest = artefact.manifest.model_copy(update={"members": (trees,)})
    order = EngineOrder(EngineKind.TENSORRT, Precision.FP32, tmp_path / "engines")

    with pytest.raises(ModelRefused, match="MODEL_GPU: no member is a network in fp32"):
        open_ordered(replace(artefact, manifest=manifest), order)
