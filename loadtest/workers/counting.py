"""Two agents that only count records: a stock Faust agent, and our batch agent.

Both consume by Faust, commit by the same timer, and decode nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import faust

from fraudstream.broker.batch_agent import AgentSettings, Finished, Records, batch_app
from fraudstream.broker.faust_process import run_until_asked
from fraudstream.runtime.readiness import say_ready
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED

EVENTS_GROUP: Final = "count-events"
BATCHES_GROUP: Final = "count-batches"
# As the batch agent commits.
_COMMIT_S: Final = 0.25


class CountingHandler:
    """Counts the records of each poll."""

    def __init__(self) -> None:
        self._count = 0

    def assigned(self, partitions: set[int]) -> None:
        """Say that it is ready to be given records."""
        if partitions:
            say_ready()

    async def handle(self, records: Records) -> Finished:
        """Count."""
        self._count += sum(map(len, records.values()))
        return {partition: batch[-1].offset + 1 for partition, batch in records.items() if batch}


def agent_settings(kafka: KafkaSettings, group: str) -> AgentSettings:
    """Return settings of an agent over accepted rows, with files in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="fraud-bench-"))
    return AgentSettings(kafka.group(group), kafka.topic(ACCEPTED), "", str(folder / "faust"))


def count_batches() -> None:
    """Count by our batch agent until a signal; never returns."""
    kafka = KafkaSettings.read()
    run_until_asked(batch_app(kafka, agent_settings(kafka, BATCHES_GROUP), CountingHandler()))


def count_events() -> None:
    """Count by a stock agent, one event at a time, until a signal; never returns."""
    kafka = KafkaSettings.read()
    settings = agent_settings(kafka, EVENTS_GROUP)
    app = faust.App(
        settings.group,
        broker=[f"kafka://{address}" for address in kafka.bootstrap.split(",")],
        datadir=settings.state_dir,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=_COMMIT_S,
        broker_max_poll_records=512,
        stream_recovery_delay=0,
        topic_disable_leader=True,
        web_enabled=False,
    )
    counted = [0]

    @app.agent(app.topic(settings.topic, key_serializer="raw", value_serializer="raw"))
    async def work(stream: Any) -> None:
        async for _ in stream:
            counted[0] += 1

    @app.on_partitions_assigned.connect
    async def announce(*_: Any, **__: Any) -> None:
        say_ready()

    run_until_asked(app)
