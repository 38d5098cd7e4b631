"""Record batches as bytes, good and bad, as no well-behaved client would write them."""

from __future__ import annotations

import asyncio
import gzip
import struct
from collections.abc import Sequence
from typing import Final

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

CODECS: Final = ("none", "gzip", "snappy", "snappy-xerial", "lz4", "zstd")
_NUMBER_OF: Final = {"none": 0, "gzip": 1, "snappy": 2, "snappy-xerial": 2, "lz4": 3, "zstd": 4}
FIRST_MS: Final = 1_790_000_000_000
FIRST_OFFSET: Final = 100


def varint(number: int) -> bytes:
    """Encode a number as zigzag."""
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _field(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


def record_body(
    delta: int,
    value: bytes | None,
    *,
    key: bytes | None = None,
    headers: Sequence[tuple[bytes, bytes | None]] = (),
) -> bytes:
    """Encode what stands behind a record's length."""
    parts = [b"\x00", varint(delta), varint(delta), _field(key), _field(value)]
    parts.append(varint(len(headers)))
    parts += [_field(name) + _field(content) for name, content in headers]
    return b"".join(parts)


def record(body: bytes) -> bytes:
    """Put a record's length before it."""
    return varint(len(body)) + body


def compress(codec: str, content: bytes) -> bytes:
    """Compress as the senders of each codec do."""
    if codec == "gzip":
        return gzip.compress(content)
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(content))
    if codec == "snappy-xerial":
        half = len(content) // 2
        blocks = [bytes(cramjam.snappy.compress_raw(b)) for b in (content[:half], content[half:])]
        framed = b"".join(struct.pack(">i", len(block)) + block for block in blocks)
        return b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + framed
    if codec == "lz4":
        return bytes(cramjam.lz4.compress(content))
    if codec == "zstd":
        return bytes(cramjam.zstd.compress(content))
    return content


def batch(
    content: bytes,
    *,
    last_delta: int = 0,
    attributes: int = 0,
    count: int = 1,
    first_ms: int = FIRST_MS,
) -> bytes:
    """Put a header with a right checksum before the (compressed) records of a batch."""
    checked = struct.pack(
        ">hiqqqhii",
        attributes,
        last_delta,
        first_ms,
        first_ms + last_delta,
        -1,
        -1,
        -1,
        count,
    )
    checked += content
    frame = struct.pack(">iBI", -1, 2, calc_crc32c(checked)) + checked
    return struct.pack(">qi", FIRST_OFFSET, len(frame)) + frame


def at_offset(base: int, data: bytes) -> bytes:
    """Return a batch at another offset, which its checksum leaves out."""
    return struct.pack(">q", base) + data[8:]


def batch_of(bodies: Sequence[bytes], codec: str = "none", first_ms: int = FIRST_MS) -> bytes:
    """Return a batch of records."""
    content = compress(codec, b"".join(record(body) for body in bodies))
    return batch(
        content,
        last_delta=max(0, len(bodies) - 1),
        attributes=_NUMBER_OF[codec],
        count=len(bodies),
        first_ms=first_ms,
    )


def write_foreign(bootstrap: str, topic: str, partition: int) -> None:
    """Write a record that brokers take and clients cannot read: its header's name is Latin-1."""
    body = record_body(0, b"value", headers=[(b"k\xfcndigung", b"1")])
    write_batch(bootstrap, topic, partition, at_offset(0, batch_of([body])))


def junk_batches() -> dict[str, bytes]:
    """Return batches that no client can read, by what is wrong with each.

    None lies about how many offsets it takes: the embedded broker believes a negative delta of the
    last offset, goes back in its log, and serves and takes nothing in that partition from then on.
    """
    good = batch_of([record_body(0, b"value")])
    return {
        "checksum": good[:-1] + bytes([good[-1] ^ 1]),
        "format": good[:16] + b"\x01" + good[17:],
        "lz4": batch(b"no frame at all", attributes=_NUMBER_OF["lz4"]),
        "zstd": batch(b"no frame at all", attributes=_NUMBER_OF["zstd"]),
        "records": batch(b"\xff" * 20),
        "offset": batch(record(record_body(7, b"value"))),
        "no records": batch(b"", count=0),
        "control": batch(record(record_body(0, b"value")), attributes=0x20),
    }


def write_junk(bootstrap: str, topic: str, partition: int) -> None:
    """Write each kind of junk; Apache Kafka refuses nearly all of it, the embedded broker none.

    Raises:
        KafkaError: The broker refuses it.
    """
    for data in junk_batches().values():
        write_batch(bootstrap, topic, partition, at_offset(0, data))


def write_batch(bootstrap: str, topic: str, partition: int, data: bytes) -> None:
    """Send a batch as it stands to a broker, which takes what no client would make.

    Raises:
        KafkaError: The broker itself refuses it.
    """
    asyncio.run(_write_batch(bootstrap, topic, partition, data))


async def _write_batch(bootstrap: str, topic: str, partition: int, data: bytes) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks=1, enable_idempotence=False
    ) as producer:
        made = producer.create_batch()
        made.append(key=None, value=b"in its place", timestamp=None)
        made._buffer = bytearray(data)
        await (await producer.send_batch(made, topic, partition=partition))
