"""Feeds: which raw topics there are, and the banks whose records each may carry. Pure.

A feed is a topic, or a pair of them with its labels, that one bank writes to. Whoever may write to
it can bring no other bank's transaction, so nobody takes another's transaction id first.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fraudstream.errors import InvalidSettings, InvalidTransaction
from fraudstream.reject_reasons import RejectReason
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ALL, LABELS_RAW, RAW, Topic
from fraudstream.transaction.banks import ALL_BANKS, Banks, is_clear, stands_for

_STRICT: Final = ConfigDict(frozen=True, extra="forbid")
_TOPIC: Final = r"^[A-Za-z0-9._-]{1,180}$"
# Written by our own services: what a bank wrote there would be taken for theirs.
_OURS: Final = frozenset(topic.name for topic in ALL if topic not in (RAW, LABELS_RAW))


class Feed(BaseModel):
    """What one bank sends, or several that share a way in.

    Attributes:
        name: For people; decisions about its transactions are marked `feed:NAME`.
        topic: Raw topic of its transactions, without the deployment's prefix.
        labels_topic: Raw topic of its labels, likewise; None where it sends none.
        banks: Whose records they may carry.
    """

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    topic: str = Field(pattern=_TOPIC)
    labels_topic: str | None = Field(default=None, pattern=_TOPIC)
    banks: Banks

    @model_validator(mode="after")
    def _is_clear(self) -> Self:
        if not is_clear(self.banks):
            raise ValueError(f'banks: expected ["{ALL_BANKS}"] alone, or names')
        ours = {self.topic, self.labels_topic} & _OURS
        if ours:
            raise ValueError(f"{min(map(str, ours))}: expected a topic that banks write")
        return self

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Its topics, with the promises of the raw ones."""
        raw = replace(RAW, name=self.topic)
        return (raw, replace(LABELS_RAW, name=self.labels_topic)) if self.labels_topic else (raw,)

    def check_bank(self, bank_id: str) -> None:
        """Refuse a record of a bank that the feed is not for.

        Raises:
            InvalidTransaction: `BANK_MISMATCH`. A record without a bank is refused later.
        """
        if bank_id and not stands_for(self.banks, bank_id):
            msg = f"feed {self.name} carries records of {', '.join(self.banks)}, found another bank"
            raise InvalidTransaction(RejectReason.BANK_MISMATCH, msg)


class _FeedsFile(BaseModel):
    model_config = _STRICT

    feed: tuple[Feed, ...] = Field(min_length=1, max_length=64)


OPEN: Final = Feed(name="raw", topic=RAW.name, labels_topic=LABELS_RAW.name, banks=(ALL_BANKS,))
"""The one feed of an installation without a file: whoever may write to it is trusted for all."""


class Feeds:
    """All feeds of an installation, found by topic."""

    def __init__(self, feeds: Sequence[Feed] = (OPEN,), prefix: str = "") -> None:
        """Take the feeds, and the prefix of this deployment's topics."""
        self.all = tuple(feeds)
        topics = [topic for feed in feeds for topic in feed.topics]
        names = [feed.name for feed in feeds]
        if len({topic.name for topic in topics}) < len(topics) or len(set(names)) < len(names):
            raise InvalidSettings("feeds: expected each name and each topic once")
        self._by_topic: Mapping[str, Feed] = {
            f"{prefix}{topic.name}": feed for feed in feeds for topic in feed.topics
        }

    @classmethod
    def read(cls, path: Path | None, kafka: KafkaSettings) -> Self:
        """Return the feeds of a file; without one the single feed of every bank.

        Raises:
            InvalidSettings: The file is missing or malformed, or names a topic twice.
        """
        if path is None:
            return cls((OPEN,), kafka.topic_prefix)
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls(_FeedsFile.model_validate(told).feed, kafka.topic_prefix)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise InvalidSettings(f"{path}: expected TOML with [[feed]]: {exc}") from exc
        except ValidationError as exc:
            first = exc.errors(include_input=False, include_url=False)[0]
            index = ".".join(map(str, first["loc"])) or "the file"
            msg = "expected [[feed]] with name, topic, banks and perhaps labels_topic"
            raise InvalidSettings(f"{path}: {msg}: {index}: {first['msg']}") from exc
        except InvalidSettings as exc:
            raise InvalidSettings(f"{path}: {exc}") from exc

    @property
    def transactions(self) -> list[Topic]:
        """Raw topics of transactions."""
        return [feed.topics[0] for feed in self.all]

    @property
    def labels(self) -> list[Topic]:
        """Raw topics of labels."""
        return [topic for feed in self.all for topic in feed.topics[1:]]

    def of(self, topic: str) -> Feed:
        """Return the feed of a topic, in this deployment's name."""
        return self._by_topic[topic]

    def knows(self, topic: str) -> bool:
        """Return whether a topic, in this deployment's name, is a feed's of transactions."""
        feed = self._by_topic.get(topic)
        return feed is not None and topic.endswith(feed.topic)

    def named(self, topics: Sequence[Topic]) -> tuple[Topic, ...]:
        """Return topics, with those of the feeds in the place of the two raw ones."""
        of_feeds = {RAW.name: self.transactions, LABELS_RAW.name: self.labels}
        return tuple(one for topic in topics for one in of_feeds.get(topic.name, [topic]))
