"""Decompress record batches of every codec that Kafka knows, up to a size.

One library, cramjam, for all codecs and for both Kafka clients. What a batch holds is written into
a room of fixed size, so a batch that claims or makes more (a bomb) costs nothing but itself.
"""

from __future__ import annotations

import mmap
import struct
import threading
from collections.abc import Callable
from typing import Final

import cramjam

# A producer bounds a batch before it compresses it, at 1 MiB or less unless told otherwise.
MOST_BYTES: Final = 32 << 20

# Marker, name and zero byte of the framing that the Java client's Snappy writes; two numbers of
# its version follow, which some writers get wrong and no reader needs.
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_BLOCK_LENGTH: Final = struct.Struct(">i")

Room = mmap.mmap | memoryview


# cramjam's words for a room that is full, by the codecs' writers and by Snappy's.
_FULL: Final = ("failed to write whole buffer", "is smaller than required")


class UndecodableBatch(Exception):
    """The content of a batch cannot be decompressed; the text says why.

    Attributes:
        reason: `CORRUPT`, or `TOO_LARGE` for what unpacks to more than is read.
    """

    def __init__(self, cause: str, reason: str = "CORRUPT") -> None:
        super().__init__(cause)
        self.reason = reason


class _Rooms(threading.local):
    """One room for each thread that reads: pages that no batch ever reached take no memory."""

    def __init__(self) -> None:
        self.room = mmap.mmap(-1, MOST_BYTES)


_ROOMS: Final = _Rooms()


def _snappy(content: memoryview, room: Room) -> int:
    """Decompress raw Snappy, or blocks of it in xerial's framing."""
    if bytes(content[: len(_XERIAL)]) != _XERIAL:
        return cramjam.snappy.decompress_raw_into(content, room)
    view = memoryview(room)
    at, filled = _XERIAL_HEADER_BYTES, 0
    while at < len(content):
        (length,) = _BLOCK_LENGTH.unpack_from(content, at)
        at += _BLOCK_LENGTH.size
        if not 0 <= length <= len(content) - at:
            raise ValueError("a Snappy block is longer than the batch")
        filled += cramjam.snappy.decompress_raw_into(content[at : at + length], view[filled:])
        at += length
    return filled


_DECOMPRESS: Final[dict[int, tuple[str, Callable[[memoryview, Room], int]]]] = {
    1: ("gzip", cramjam.gzip.decompress_into),
    2: ("snappy", _snappy),
    3: ("lz4", cramjam.lz4.decompress_into),
    4: ("zstd", cramjam.zstd.decompress_into),
}


def decompress(codec: int, content: memoryview) -> memoryview:
    """Return what the records of a batch are, valid until this thread's next call.

    Args:
        codec: Number from the batch's attributes; 1 to 4.
        content: What follows the batch's header.

    Raises:
        UndecodableBatch: The codec is unknown, the content is not of it or is too large.
    """
    if codec not in _DECOMPRESS:
        raise UndecodableBatch(f"codec {codec} is none that Kafka knows")
    name, into = _DECOMPRESS[codec]
    room = _ROOMS.room
    try:
        return memoryview(room)[: into(content, room)]
    except (cramjam.DecompressionError, ValueError, struct.error) as exc:
        if any(words in str(exc) for words in _FULL):
            cause = f"unpacks to more than {MOST_BYTES >> 20} MiB of {name}"
            raise UndecodableBatch(cause, "TOO_LARGE") from exc
        raise UndecodableBatch(f"not {name}: {str(exc)[:100]}") from exc
