"""The Faust workers: a stock agent each, one event at a time, in the order of each partition."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import mode.loop

mode.loop.use("uvloop")  # before Faust looks for an event loop

import faust  # noqa: E402
from feast import FeatureStore  # noqa: E402

from fraudstream.faust_worker import run_until_asked  # noqa: E402
from fraudstream.features.warm_up import warm_up  # noqa: E402
from fraudstream.settings import KafkaSettings  # noqa: E402
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, ENTITIES  # noqa: E402
from loadtest.plain.agents import CardAgent, EntityAgent, Outputs  # noqa: E402
from loadtest.plain.settings import PlainSettings  # noqa: E402

# Outputs of the rows of so many seconds share a request to the broker.
_LINGER_S: Final = 0.02

Handle = Callable[[Any], Awaitable[None]]


def run_worker(
    role: str, settings: PlainSettings, kafka: KafkaSettings, feast: FeatureStore
) -> None:
    """Run the role `features` or `entity` until a signal; never returns."""
    logging.basicConfig(level=logging.WARNING)
    warm_up()
    app = _app(role, settings.folder, kafka)
    source = ACCEPTED if role == "features" else ENTITIES
    topic = _topic(app, kafka.topic(source))
    outputs = Outputs(*(_topic(app, kafka.topic(t)) for t in (DECISIONS, ALERTS, ENTITIES)))
    connected: list[Handle] = []

    @app.agent(topic)
    async def work(stream: Any) -> None:
        if not connected:
            connected.append(await _connect(role, settings, feast, outputs))
        async for event in stream.events():
            await connected[0](event)

    @app.on_partitions_assigned.connect
    async def announce(*_: Any, **__: Any) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    run_until_asked(app)


async def _connect(
    role: str, settings: PlainSettings, feast: FeatureStore, outputs: Outputs
) -> Handle:
    await feast.initialize()
    if role == "entity":
        return EntityAgent(feast).handle
    return CardAgent(feast, f"127.0.0.1:{settings.scorer_port}", outputs).handle


def _app(role: str, folder: Path, kafka: KafkaSettings) -> faust.App:
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


def _topic(app: faust.App, name: str) -> Any:
    return app.topic(name, key_serializer="raw", value_serializer="raw")
