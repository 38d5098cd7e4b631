"""The Faust workers: a stock agent each, one event at a time, in the order of each partition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from feast import FeatureStore

from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, ENTITIES
from loadtest.plain.agents import CardAgent, EntityAgent, Outputs
from loadtest.plain.app import make_app, raw_topic, run_agent
from loadtest.plain.settings import PlainSettings

Handle = Callable[[Any], Awaitable[None]]


def run_worker(
    role: str, settings: PlainSettings, kafka: KafkaSettings, feast: FeatureStore
) -> None:
    """Run the role `features` or `entity` until a signal; never returns."""
    app = make_app(role, settings.folder, kafka)
    source = ACCEPTED if role == "features" else ENTITIES
    outputs = Outputs(*(raw_topic(app, kafka.topic(t)) for t in (DECISIONS, ALERTS, ENTITIES)))
    connected: list[Handle] = []

    async def work(stream: Any) -> None:
        if not connected:
            connected.append(await _connect(role, settings, feast, outputs))
        async for event in stream.events():
            await connected[0](event)

    run_agent(app, raw_topic(app, kafka.topic(source)), work)


async def _connect(
    role: str, settings: PlainSettings, feast: FeatureStore, outputs: Outputs
) -> Handle:
    await feast.initialize()
    if role == "entity":
        return EntityAgent(feast).handle
    return CardAgent(feast, f"127.0.0.1:{settings.scorer_port}", outputs).handle
