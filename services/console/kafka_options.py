"""How the console's two Kafka clients are tuned: safe, and soon aware of a broker that is gone."""

from __future__ import annotations

from typing import Any, Final

from fraudstream.broker.clients import kafka_python_consumer_options, kafka_python_producer_options
from fraudstream.settings import KafkaSettings

CONSOLE_GROUP: Final = "console"
_MAX_POLL_INTERVAL_MS: Final = 120_000
_RECONNECT_MS: Final = 5_000


def alert_consumer_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the options of the alert consumer: offsets are committed by hand only."""
    return {
        **kafka_python_consumer_options(kafka),
        "group_id": kafka.group(CONSOLE_GROUP),
        "auto_offset_reset": "none",
        "max_poll_interval_ms": _MAX_POLL_INTERVAL_MS,
        "session_timeout_ms": 10_000,
        "heartbeat_interval_ms": 2_000,
        # The embedded broker answers a long poll only at its end; an analyst waits a moment longer.
        "fetch_max_wait_ms": 250 if kafka.is_embedded else 500,
        "reconnect_backoff_max_ms": _RECONNECT_MS,
        # Topics are made by the operator, with the partitions that the design needs.
        "allow_auto_create_topics": False,
        "bootstrap_timeout_ms": 5_000,
    }


def label_producer_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the options of the label producer: acknowledged by all replicas, in order."""
    return {
        **kafka_python_producer_options(kafka),
        "max_in_flight_requests_per_connection": 1,
        "delivery_timeout_ms": 15_000,
        "request_timeout_ms": 10_000,
        "reconnect_backoff_max_ms": _RECONNECT_MS,
        "allow_auto_create_topics": False,
        "max_block_ms": 5_000,
        "bootstrap_timeout_ms": 5_000,
    }
