"""Keys of records' MACs: a file for each writer and topic, and which a process holds.

A file `<writer>.<topic>.json`, or `<writer>.store.json` of who seals its own records in the online
store, holds `active`, `keys` (id to 32 bytes in hexadecimal) and, after an
upgrade, `required_from_ms`. Who writes and reads what stands in `fraudstream.privileges`; a service
is given the files that `files_of` names for its principal.

A process tells of its keys once for each prefix of topics (`hold`); every Kafka client is made
with options that see to it, and the patches of both clients ask for them (`keys_of`).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from fraudstream.broker.wire.record_macs import MacKey, TopicKeys
from fraudstream.errors import InvalidSettings
from fraudstream.keys.key_ring import KeyRing, number_of, parse_key_ring
from fraudstream.keys.secret_files import Purpose, read_secret, write_secret
from fraudstream.privileges import PRINCIPALS, Principal, principal
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ALL, Topic, base_name

DIRECTORY: Final = "FRAUD_KAFKA_RECORD_KEYS_DIR"
_LOG: Final = logging.getLogger(__name__)
_LOOPBACK: Final = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[?::1\]?)(:\d+)?")
_MAKE: Final = "`fraudstream ingest keys records make DIR` makes them"

SIGNED: Final = tuple(topic for topic in ALL if topic.is_signed)


def file_name(writer: str, topic: Topic) -> str:
    """Return the name of the key file of a writer and topic.

    >>> file_name("scoring", next(topic for topic in SIGNED if "made" in topic.name))
    'scoring.decisions.made.v1.json'
    """
    return f"{writer}.{topic.name}.json"


def store_file_name(room: str) -> str:
    """Return the name of the key file with which a room seals its records in the store.

    >>> store_file_name("scoring")
    'scoring.store.json'
    """
    return f"{room}.store.json"


def all_files() -> list[str]:
    """Return the names of all key files of a deployment.

    >>> all_files()[-1]
    'scoring.store.json'
    """
    signing = [file_name(writer, topic) for topic in SIGNED for writer in topic.writers]
    return signing + [store_file_name(one.room) for one in PRINCIPALS if _seals(one)]


def _seals(principal: Principal) -> bool:
    return principal.store is not None and principal.store.seals


def files_of(principal: Principal) -> list[str]:
    """Return the names of the key files that a principal needs: of what it writes and reads.

    >>> from fraudstream.privileges import principal
    >>> files_of(principal("console"))
    ['scoring.alerts.raised.v1.json', 'console.labels.settled.v1.json']
    """
    signing = [
        file_name(writer, topic)
        for topic in SIGNED
        for writer in topic.writers
        if topic in principal.reads or (topic in principal.writes and writer == principal.room)
    ]
    return signing + [store_file_name(principal.room)] * _seals(principal)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file holds.

    Attributes:
        active: Id of the key that signs.
        keys: Key id to 32 secret bytes; readers take the MACs of all.
        required_from_ms: Records that the broker took before, epoch milliseconds, need no MAC; nor
            do records of the store as long as those of before may live.
    """

    active: str
    keys: Mapping[str, bytes] = field(repr=False)
    required_from_ms: int = 0

    @classmethod
    def new(cls, required_from_ms: int = 0) -> Self:
        """Return a file with one new key."""
        ring = KeyRing.new()
        return cls(ring.active, ring.keys, required_from_ms)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file that no other user may read.

        Raises:
            InvalidSettings: The file is missing, open to others, or no key file.
        """
        text = read_secret(path, Purpose.RECORD_KEYS)
        ring = parse_key_ring(path, text, "record keys")
        required_from_ms = json.loads(text).get("required_from_ms", 0)
        if not isinstance(required_from_ms, int):
            raise InvalidSettings(f"record keys {path}: required_from_ms is a number")
        return cls(ring.active, ring.keys, required_from_ms)

    def with_new_key(self) -> Self:
        """Return the file with one more key, which signs nothing yet.

        >>> KeyFile("k1", {"k1": bytes(32)}).with_new_key().newest
        'k2'
        """
        return replace(self, keys=KeyRing(self.active, self.keys).rotated().keys)

    def with_newest_active(self) -> Self:
        """Return the file with its newest key as the one that signs."""
        return replace(self, active=self.newest)

    def without_old(self) -> Self:
        """Return the file without keys that are older than the one that signs."""
        first = number_of(self.active)
        kept = {name: key for name, key in self.keys.items() if number_of(name) >= first}
        return replace(self, keys=kept)

    @property
    def newest(self) -> str:
        """Id of the newest key."""
        return max(self.keys, key=number_of)

    def text(self) -> str:
        """Return what the file holds."""
        keys = {name: key.hex() for name, key in self.keys.items()}
        content: dict[str, object] = {"active": self.active, "keys": keys}
        if self.required_from_ms:
            content["required_from_ms"] = self.required_from_ms
        return json.dumps(content) + "\n"


class RecordKeys:
    """The keys of one folder.

    Args:
        folder: With the key files that this process was given.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InvalidSettings(f"{DIRECTORY}: expected a folder of key files at {folder}")
        self._folder = folder
        self._files = {
            (writer, topic.name): KeyFile.load(path)
            for topic in SIGNED
            for writer in topic.writers
            if (path := folder / file_name(writer, topic)).exists()
        }
        self._trusted = {topic.name: self._keys_of(topic) for topic in SIGNED}
        self._writers = {topic.name: topic.writers for topic in SIGNED}

    def trusted(self, topic: str) -> TopicKeys | None:
        """Return what a reader trusts of a topic, without prefix; None where nobody signs it.

        Raises:
            InvalidSettings: The file of one of its writers is missing: all that it wrote would be
                refused.
        """
        found = self._trusted.get(topic)
        if found is not None:
            for writer in self._writers[topic]:
                self._file_of(writer, topic)
        return found

    def signing_key(self, writer: str, topic: str) -> MacKey | None:
        """Return the key that a writer signs a topic with; None where nobody signs it.

        Raises:
            InvalidSettings: Its file is not in the folder.
        """
        if topic not in self._trusted:
            return None
        found = self._file_of(writer, topic)
        return MacKey(writer, found.active, found.keys[found.active])

    def store_keys(self, room: str) -> KeyFile:
        """Return the keys with which a room seals its records in the store.

        Raises:
            InvalidSettings: Their file is not in the folder, or not as it must be.
        """
        return KeyFile.load(self._folder / store_file_name(room))

    def _file_of(self, writer: str, topic: str) -> KeyFile:
        found = self._files.get((writer, topic))
        if found is None:
            name = f"{writer}.{topic}.json"
            raise InvalidSettings(f"{self._folder}: expected the key file {name}; {_MAKE}")
        return found

    def check(self, who: Principal) -> None:
        """Look whether the files are there that a principal needs.

        Raises:
            InvalidSettings: One is missing.
        """
        missing = [name for name in files_of(who) if not (self._folder / name).exists()]
        if missing:
            raise InvalidSettings(f"{self._folder}: expected also {', '.join(missing)}; {_MAKE}")

    def _keys_of(self, topic: Topic) -> TopicKeys:
        files = {writer: self._files.get((writer, topic.name)) for writer in topic.writers}
        found = {writer: file for writer, file in files.items() if file is not None}
        keys = [
            MacKey(writer, key_id, secret)
            for writer, file in found.items()
            for key_id, secret in file.keys.items()
        ]
        return TopicKeys(
            keys={key.name: key for key in keys},
            required_from_ms=max((file.required_from_ms for file in found.values()), default=0),
            tells_writer=len(topic.writers) > 1,
        )


_HELD: Final[dict[str, RecordKeys]] = {}


def hold(kafka: KafkaSettings) -> RecordKeys | None:
    """Have this process check what it reads of a deployment's topics; return its keys.

    None where no folder is set, which is right on loopback only: whoever runs services there can
    read their keys as well.

    Raises:
        InvalidSettings: A key file is missing or invalid, or the broker is elsewhere and no folder
            is set.
    """
    if kafka.record_keys_dir is None:
        if not (kafka.is_embedded or _is_loopback(kafka.bootstrap)):
            msg = f"{DIRECTORY} is not set, and Kafka is not on this machine: expected a folder"
            raise InvalidSettings(f"{msg} with the keys of records' MACs; {_MAKE}")
        return None
    keys = _loaded(kafka.record_keys_dir)
    _HELD[kafka.topic_prefix] = keys
    return keys


def hold_as(kafka: KafkaSettings, name: str) -> RecordKeys | None:
    """Have a service check what it reads, and see that it has the keys that it needs.

    Returns its keys, None where there are none.

    Args:
        kafka: Names the folder of keys.
        name: The service's principal in `fraudstream.privileges`.

    Raises:
        InvalidSettings: One is missing or not as it must be.
    """
    keys = hold(kafka)
    if keys is None:
        _LOG.warning("%s is not set: records are not signed, and none is checked", DIRECTORY)
    else:
        keys.check(principal(name))
    return keys


def keys_of(topic: str) -> TopicKeys | None:
    """Return what this process trusts of a topic, named with its prefix; None for anything.

    Raises:
        InvalidSettings: A key file of the topic is missing.
    """
    base = base_name(topic)
    held = _HELD.get(topic.removesuffix(base))
    return None if held is None else held.trusted(base)


def make_files(folder: Path, required_from_ms: int = 0) -> Sequence[Path]:
    """Make the key files that a folder lacks; return those made.

    Raises:
        InvalidSettings: One cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = [folder / name for name in all_files()]
    missing = [path for path in paths if not path.exists()]
    for path in missing:
        write_secret(path, KeyFile.new(required_from_ms).text(), Purpose.RECORD_KEYS)
    return missing


@lru_cache
def _loaded(folder: Path) -> RecordKeys:
    return RecordKeys(folder)


def _is_loopback(bootstrap: str) -> bool:
    return all(_LOOPBACK.fullmatch(address.strip()) for address in bootstrap.split(","))
