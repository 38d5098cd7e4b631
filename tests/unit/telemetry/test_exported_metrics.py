"""Metrics have the names that the pages promise, and each service exports its own only."""

from __future__ import annotations

import socket
from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import Counter, MetricWrapperBase

from fraudstream.errors import InvalidSettings, PermissionDenied, Unauthenticated
from fraudstream.models.psi import SCORE_EDGES
from fraudstream.store.generations import Switch
from fraudstream.telemetry import metrics
from fraudstream.telemetry.exported_metrics import (
    EXPORTED,
    LABEL_VALUES,
    registry_of,
    serve_metrics,
)
from fraudstream.v1.decision_pb2 import Action
from services.archive.streams import STREAMS
from services.features.rows.accepted_rows import RowClass
from services.features.shards.loss import LossReason
from services.scoring.inference.ledger_follower import Role
from tests.material.documented_metrics import Named, documented

# Gauges of `training drift`, which writes them to a file.
_OF_A_COMMAND = (metrics.DRIFT_PSI, metrics.DRIFT_CALIBRATION)


def _samples(registry: CollectorRegistry) -> set[Named]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


def _defined() -> list[MetricWrapperBase]:
    return [made for made in vars(metrics).values() if isinstance(made, MetricWrapperBase)]


def _families(metrics: Iterable[MetricWrapperBase]) -> set[str]:
    ends = {"counter": "_total"}
    return {
        family.name + ends.get(family.type, "")
        for metric in metrics
        for family in metric.describe()
    }


@pytest.mark.parametrize(("page", "names"), documented().items())
def test_metric_that_a_page_names_is_exported_by_that_name(page: str, names: set[Named]) -> None:
    """An alarm on a name that nobody exports never fires, and nobody sees that it does not."""
    known = _families([*_defined()])

    assert {name for name, _ in names} <= known, page


@pytest.mark.parametrize(("page", "names"), documented().items())
def test_label_that_a_page_names_is_one_of_the_metric(page: str, names: set[Named]) -> None:
    """A page's label value exists before its first event, so that `increase()` sees that event."""
    samples = set[Named]().union(*(_samples(registry_of(service)) for service in EXPORTED))
    labels_of = {name: dict(labels) for name, labels in samples}
    wanted = [(name, pair) for name, labels in names for pair in labels]

    for name, (label, value) in wanted:
        assert label in labels_of.get(name, {label: ""}), (page, name)
        found = {dict(labels).get(label) for known, labels in samples if known == name}
        assert not value or value in found, (page, name)


def test_every_metric_is_exported_by_a_service() -> None:
    """A metric that is counted and not exported is counted for nobody."""
    exported = {id(metric) for metrics in EXPORTED.values() for metric in metrics}

    lacking = [one for one in _defined() if id(one) not in exported and one not in _OF_A_COMMAND]

    assert not lacking


def test_name_ends_with_the_unit_that_it_is_given() -> None:
    """`prometheus_client` appends a unit that the name lacks, and nobody looks for that name."""
    for metric in _defined():
        unit = str(metric._unit)
        assert metric._name.removesuffix("_total").endswith(unit)
        assert not metric._name.endswith(f"_{unit}_{unit}") or not unit


def test_service_exports_no_gauge_that_it_never_sets() -> None:
    """Versions are compared over all that export them: a 0 of ingest would differ."""
    versions = {"fraud_rule_set_version", "fraud_model_ledger_entry"}

    showing = {
        service for service in EXPORTED if versions & {n for n, _ in _samples(registry_of(service))}
    }

    assert showing == {"scoring"}


def test_every_counter_with_labels_begins_at_zero() -> None:
    """`increase()` sees no step from nothing to the first event."""
    counters = [metric for metric in _defined() if isinstance(metric, Counter)]

    assert {metric._name for metric in counters if metric._labelnames} == {
        metric._name for metric in LABEL_VALUES
    }


@pytest.mark.parametrize(
    ("metric", "label", "values"),
    [
        (metrics.SHARDS_REBUILT, 0, [reason.value for reason in LossReason]),
        (metrics.SHARDS_REBUILT, 1, [*(switch.value for switch in Switch), "failed"]),
        (metrics.FEATURES_ROWS, 0, [*(verdict.value for verdict in RowClass), "stale_shared"]),
        (metrics.ARCHIVE_ROWS, 0, [stream.noun for stream in STREAMS]),
        (metrics.MODEL_SWAPS, 0, [role.value for role in Role]),
        (metrics.SCORED, 0, [str(edge) for edge in (0.0, *SCORE_EDGES)]),
        (
            metrics.DECISIONS,
            0,
            [name.removeprefix("ACTION_").lower() for name in Action.keys()[1:]],
        ),
        (
            metrics.CALLS_REFUSED,
            0,
            [
                *(kind.outcome.status.lower() for kind in (Unauthenticated, PermissionDenied)),
                *("caller_full", "door_full", "message_late"),
            ],
        ),
    ],
)
def test_values_of_a_label_are_those_that_the_service_counts(
    metric: Counter, label: int, values: list[str]
) -> None:
    """A value that only the service knows begins with its first event."""
    assert sorted(LABEL_VALUES[metric][label]) == sorted(values)


def test_metrics_port_zero_serves_nothing() -> None:
    """A service without a metrics port opens none."""
    serve_metrics("ingest", 0)


def test_metrics_port_in_use_is_a_setting_to_mend() -> None:
    """The message names address and variable; a traceback would name neither."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(InvalidSettings) as refused:
            serve_metrics("archive", port)

    assert f"127.0.0.1:{port}: another process listens there" in str(refused.value)
    assert "FRAUD_ARCHIVE_METRICS_PORT" in str(refused.value)
