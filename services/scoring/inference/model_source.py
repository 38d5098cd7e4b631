"""From an artefact on disk to what scoring serves."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fraudstream.engines.engine_kinds import EngineOrder
from fraudstream.engines.fallback import EngineChange, FallbackEngine
from fraudstream.engines.protocol import Engine
from fraudstream.errors import InvalidSettings, ModelRefused
from fraudstream.models.artefact import MANIFEST_FILE, Artefact
from fraudstream.models.ledger_entry import LedgerHead, ModelRef
from fraudstream.models.manifest import CHANNEL_PREFIX, Manifest, ReasonGroup
from fraudstream.models.open_engine import Budget, open_ordered, ready_engine
from fraudstream.models.promotion_rules import Standing
from fraudstream.models.repository import ModelRepository, keep_head, read_head
from fraudstream.signing import People
from fraudstream.telemetry.metrics import ENGINE_CHANGES, ENGINE_FALLBACK
from services.scoring.inference.served_model import ServedModel
from services.scoring.reasons.estimate import Estimate
from services.scoring.reasons.occlusion import Occlusion
from services.scoring.settings import ScoringSettings

# What decides which kernels a library picks, and so the last bits of a score.
_VECTOR_FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
_CPU_FILE: Final = Path("/proc/cpuinfo")


def open_repository(settings: ScoringSettings, clock_ms: Callable[[], int]) -> ModelRepository:
    """Return the repository that the settings name, with the people whose signatures count.

    Raises:
        InvalidSettings: There is no file of people, or the folder is that of an artefact.
    """
    if settings.people_file is None:
        raise InvalidSettings(
            "FRAUD_SCORING_PEOPLE_FILE is not set: expected the file of people whose signatures"
            " count; `fraudstream training person` makes one"
        )
    folder = Path(settings.model)
    if (folder / MANIFEST_FILE).exists():
        raise InvalidSettings(
            f"FRAUD_SCORING_MODEL: {folder} is a model artefact, expected the folder of a model"
            f" repository. Put the artefact into one by `fraudstream training add {folder}"
            " --repository DIR`, then one approver proposes it (`propose`) and another one promotes"
            " it (`promote`)"
        )
    return ModelRepository(folder, People.load(settings.people_file), clock_ms)


def _count_change(change: EngineChange) -> None:
    """Count that another engine serves a model; each model begins without a fallback."""
    if change.is_fallback:
        ENGINE_FALLBACK.inc()
    else:
        ENGINE_FALLBACK.dec()
    ENGINE_CHANGES.labels(change.reason.lower()).inc()


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A repository, and how a model of it becomes one that serves.

    Attributes:
        repository: Whose ledger says which models serve.
        budget: What a model may cost.
        head_file: Where the head of the ledger is kept from start to start, so that one without
            what was seen is refused; None to remember nothing.
        order: An engine that takes over as soon as it has passed the same check.
        reference_currency: Of the rate table; a model that learned from amounts of another one is
            refused. Empty for any.
    """

    repository: ModelRepository
    budget: Budget
    head_file: Path | None = None
    order: EngineOrder | None = None
    reference_currency: str = ""

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
        self._check_currency(artefact.manifest.reference_currency)
        cpu = ready_engine(artefact, self.budget)
        if self.order is None:
            return served_model(artefact), cpu
        ordered = functools.partial(open_ordered, artefact, self.order)
        return served_model(artefact), FallbackEngine(cpu, ordered, _count_change)

    def _check_currency(self, learned: str | None) -> None:
        if learned and self.reference_currency and learned != self.reference_currency:
            msg = (
                f"expected a model of amounts in {self.reference_currency}, as the rate table has"
                f" it, found one of {learned}; FRAUD_RATES_TABLE_FILE names the table"
            )
            raise ModelRefused("MODEL_CURRENCY", msg)


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
