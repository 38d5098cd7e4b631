"""The bare chain: the hops of the line with nothing between them.

`relay` takes records of the raw topic and appends them to the accepted one; `ask` takes those, asks
the echo about each by unary gRPC, and appends the answers to the decisions. Each waits for the
broker's acknowledgement, as the line does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import grpc.aio
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from fraudstream.broker.clients import BatchProducer, OutRecord, aiokafka_options, fetch_wait_ms
from fraudstream.runtime.readiness import say_ready
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, DECISIONS, RAW, Topic

_METHOD: Final = "/fraudstream.v1.Scoring/Score"
_MOST_RECORDS: Final = 500
_MOST_CALLS: Final = 128
_POLL_MS: Final = 1_000

Work = Callable[[Sequence[ConsumerRecord]], Awaitable[Sequence[bytes]]]


def run_relay() -> None:
    """Relay until a signal."""

    async def same(records: Sequence[ConsumerRecord]) -> Sequence[bytes]:
        return [record.value or b"" for record in records]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_pass_on((RAW, ACCEPTED), same))


def run_ask(echo: str) -> None:
    """Ask the echo, host:port, until a signal."""

    async def ask_all() -> None:
        calls = asyncio.Semaphore(_MOST_CALLS)  # the echo drops what goes far beyond this
        async with grpc.aio.insecure_channel(echo) as channel:
            call = channel.unary_unary(_METHOD, bytes, bytes)

            async def ask_one(record: ConsumerRecord) -> bytes:
                async with calls:
                    answer: bytes = await call(record.value or b"")
                    return answer

            async def ask(records: Sequence[ConsumerRecord]) -> Sequence[bytes]:
                return list(await asyncio.gather(*map(ask_one, records)))

            await _pass_on((ACCEPTED, DECISIONS), ask)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_all())


async def _pass_on(way: tuple[Topic, Topic], work: Work) -> None:
    """Read one topic, work on what came, append it to the other, and wait for both."""
    kafka = KafkaSettings.read()
    source, target = (kafka.topic(topic) for topic in way)
    consumer = AIOKafkaConsumer(
        source,
        **aiokafka_options(kafka),
        group_id=kafka.group(f"chain-{way[0].name}"),
        auto_offset_reset="earliest",
        fetch_max_wait_ms=fetch_wait_ms(kafka),
    )
    producer = BatchProducer(kafka)
    await producer.start()
    await consumer.start()
    while not consumer.assignment():
        await consumer.getmany(timeout_ms=_POLL_MS)
    say_ready()
    while True:
        came = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MOST_RECORDS)
        records = [record for batch in came.values() for record in batch]
        if records:
            values = zip(records, await work(records), strict=True)
            out = [OutRecord(r.key or b"", value, r.partition) for r, value in values]
            await producer.send(target, out)
