"""From an artefact on disk to what scoring serves."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fraudstream.artefact import Artefact
from fraudstream.engines.fallback import FallbackEngine
from fraudstream.engines.protocol import Engine
from fraudstream.engines.tensorrt_engine import EngineOrder
from fraudstream.ledger_entry import LedgerHead, ModelRef
from fraudstream.manifest import CHANNEL_PREFIX, Manifest, ReasonGroup
from fraudstream.model_repository import ModelRepository, keep_head, read_head
from fraudstream.ready_engine import Budget, ready_engine
from fraudstream.standing import Standing
from services.scoring.estimate import Estimate
from services.scoring.gpu import open_gpu
from services.scoring.observe import observe_engine
from services.scoring.occlusion import Occlusion
from services.scoring.served import ServedModel

# What decides which kernels a library picks, and so the last bits of a score.
_VECTOR_FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
_CPU_FILE: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A repository, and how a model of it becomes one that serves.

    Attributes:
        repository: Whose ledger says which models serve.
        budget: What a model may cost.
        head_file: Where the head of the ledger is kept from start to start, so that one without
            what was seen is refused; None to remember nothing.
        order: A GPU engine that takes over as soon as it has passed the same check.
    """

    repository: ModelRepository
    budget: Budget
    head_file: Path | None = None
    order: EngineOrder | None = None

    def read(self, seen: LedgerHead | None = None) -> Standing:
        """Return what the ledger says, and keep its head.

        Args:
            seen: A head that was read before; None at a start, when the kept one counts.

        Raises:
            ModelRefused: The ledger does not hold together, or lacks what was seen.
            InvalidSettings: The head cannot be read or kept.
        """
        kept = read_head(self.head_file) if self.head_file else None
        standing = self.repository.read(kept if seen is None else seen)
        if self.head_file and (kept is None or kept.sequence < standing.head.sequence):
            keep_head(self.head_file, standing.head)
        return standing

    def load_champion(self) -> tuple[ServedModel, Engine]:
        """Load the champion: the ledger is verified, golden rows are checked, the engine is warm.

        Raises:
            ModelRefused: The ledger does not hold together, none is promoted, or the model is not
                fit to serve.
            InvalidSettings: The head cannot be read or kept.
        """
        return self._ready(self.repository.load_champion(self.read()))

    def load(self, standing: Standing, model: ModelRef) -> tuple[ServedModel, Engine]:
        """Load a model of a verified ledger, with the same checks.

        Raises:
            ModelRefused: The model is not fit to serve.
            ModelNotLoaded: The engine failed on a golden batch.
        """
        return self._ready(self.repository.load(standing, model))

    def load_beside(self, standing: Standing, model: ModelRef) -> tuple[ServedModel, Engine]:
        """Load a model while another serves: a GPU engine that was ordered is tried once first.

        Raises:
            ModelRefused: The model is not fit to serve.
            ModelNotLoaded: The engine failed on a golden batch.
        """
        served, engine = self.load(standing, model)
        if isinstance(engine, FallbackEngine):
            engine.wait_tried()
        return served, engine

    def _ready(self, artefact: Artefact) -> tuple[ServedModel, Engine]:
        cpu = ready_engine(artefact, self.budget)
        if self.order is None:
            return served_model(artefact), cpu
        ordered = functools.partial(open_gpu, artefact, self.order)
        return served_model(artefact), FallbackEngine(cpu, ordered, observe_engine)


def served_model(artefact: Artefact) -> ServedModel:
    """Return an artefact in the form that scoring uses."""
    manifest = artefact.manifest
    occlusions = tuple(_occlusion(group, manifest) for group in manifest.reason_groups)
    return ServedModel(
        model_hash=artefact.model_hash,
        feature_hashes=artefact.feature_hashes,
        feature_names=manifest.feature_names,
        sequence_hash=manifest.sequence_hash,
        calibrate=manifest.calibration.scores,
        thresholds=manifest.thresholds,
        occlusions=occlusions,
        estimate=Estimate.fit(artefact.golden, occlusions),
    )


def _occlusion(group: ReasonGroup, manifest: Manifest) -> Occlusion:
    columns = [manifest.feature_names.index(name) for name in group.features]
    channels = [manifest.sequence_channels.index(name) for name in group.channels]
    baseline = manifest.reason_baseline
    return Occlusion(
        code=group.code,
        text=group.text,
        columns=np.array(columns, np.intp),
        column_values=np.array([baseline[name] for name in group.features], np.float32),
        channels=np.array(channels, np.intp),
        channel_values=np.array(
            [baseline[CHANNEL_PREFIX + name] for name in group.channels], np.float32
        ),
    )


def cpu_class() -> str:
    """Return the processor's architecture and the vector extensions that libraries look for.

    Scores of one class are identical to the bit. Linux says which; elsewhere only the architecture
    is known.
    """
    flags: set[str] = set()
    if _CPU_FILE.is_file():
        lines = _CPU_FILE.read_text().splitlines()
        named = (line for line in lines if line.startswith(("flags", "Features")))
        flags = set(next(named, "").split())
    return "-".join([platform.machine(), *(flag for flag in _VECTOR_FLAGS if flag in flags)])
