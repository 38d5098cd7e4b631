"""A stock Faust app with uvloop, as every worker of this room is one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import mode.loop

mode.loop.use("uvloop")  # before Faust looks for an event loop

import faust  # noqa: E402

from fraudstream.features.warm_up import warm_up  # noqa: E402
from fraudstream.settings import KafkaSettings  # noqa: E402

# Outputs of the rows of so many seconds share a request to the broker.
_LINGER_S: Final = 0.02


def make_app(role: str, folder: Path, kafka: KafkaSettings) -> faust.App:
    """Return the app of a role, whose files go under a folder."""
    logging.basicConfig(level=logging.WARNING)
    warm_up()
    folder.mkdir(parents=True, exist_ok=True)
    return faust.App(
        kafka.group(f"plain-{role}"),
        broker=[f"kafka://{address}" for address in kafka.bootstrap.split(",")],
        datadir=str(folder / role),
        consumer_auto_offset_reset="earliest",
        producer_linger=_LINGER_S,
        stream_recovery_delay=0,
        topic_disable_leader=True,
        web_enabled=False,
    )


def raw_topic(app: faust.App, name: str) -> Any:
    """Return a topic whose keys and values are bytes."""
    return app.topic(name, key_serializer="raw", value_serializer="raw")
