"""Runs of training in MLflow's store: on this machine, unless another is named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from fraudstream.errors import InvalidSettings
from training.learning.machine import is_first_process

LOCAL_STORE: Final = Path("var/mlflow.db")
OFF: Final = "off"
_EXPERIMENT: Final = "fraudstream"


class Run(Protocol):
    """What a run is told."""

    def log(self, metrics: Mapping[str, float], model_hash: str) -> None:
        """Keep figures, and which artefact came of the run; empty for none."""
        ...


class _NoRun:
    def log(self, metrics: Mapping[str, float], model_hash: str) -> None:
        pass


class _MlflowRun:
    def __init__(self, mlflow: Any) -> None:
        self._mlflow = mlflow

    def log(self, metrics: Mapping[str, float], model_hash: str) -> None:
        # MLflow takes no % in names.
        named = {name.replace("%", "pc"): each for name, each in metrics.items()}
        with _named_failure():
            self._mlflow.log_metrics(named)
            self._mlflow.set_tag("model_hash", model_hash)


@contextmanager
def track_run(store: str | None, name: str, settings: Mapping[str, Any]) -> Iterator[Run]:
    """Yield a run of the experiment `fraudstream`.

    Args:
        store: MLflow's URI; None for `var/mlflow.db` here, `off` to keep nothing.
        name: Of the run.
        settings: Nested settings, kept as flat parameters.

    Raises:
        InvalidSettings: The store cannot be reached or written.
    """
    if store == OFF or not is_first_process():
        yield _NoRun()
        return
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import: a bank's runs
    import mlflow

    with _named_failure():
        if store is None:
            LOCAL_STORE.parent.mkdir(parents=True, exist_ok=True)
            store = f"sqlite:///{LOCAL_STORE}"
        mlflow.set_tracking_uri(store)
        mlflow.set_experiment(_EXPERIMENT)
        run = mlflow.start_run(run_name=name)
        mlflow.log_params(dict(_flat(settings)))
    with run:
        yield _MlflowRun(mlflow)


@contextmanager
def _named_failure() -> Iterator[None]:
    """Say what the store's failure has to do with the command."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as exc:
        raise InvalidSettings(f"--track: MLflow's store fails: {exc}") from exc


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
