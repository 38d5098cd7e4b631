"""The model repository: artefacts, the promotion ledger, and what it says is served.

    artefacts/NAME/VERSION/    an artefact, never changed once it is added
    evidence/SHA256.json       what an order rests on
    ledger.jsonl               every order, signed and chained; the one truth about who is champion

There is no pointer besides the ledger: reading it whole and checking each signature takes
some 200 microseconds an entry, and it grows by a few entries a month.

A ledger whose last lines are cut off is a good ledger of an earlier day. That shows only to whoever
knows a later head: a reader keeps the head that it saw last and refuses a ledger without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from fraudstream.errors import InvalidSettings, ModelRefused, SignatureRefused
from fraudstream.models.artefact import Artefact, load_artefact
from fraudstream.models.ledger_entry import (
    MAX_LINE_BYTES,
    LedgerEntry,
    LedgerHead,
    ModelRef,
    ledger_refused,
)
from fraudstream.models.promotion_rules import Standing, roles_for
from fraudstream.signing import People

LEDGER_FILE: Final = "ledger.jsonl"
MAX_LEDGER_BYTES: Final = 64 << 20
# Clocks of two machines differ by less; an entry from further ahead was not signed yet.
FUTURE_MS: Final = 5 * 60_000


@dataclass(frozen=True, slots=True)
class ModelRepository:
    """A repository, and whose signatures count in it.

    Attributes:
        folder: Of the repository.
        people: Whose signatures count. A person who left stays in the file, with an end (`until`):
            what they signed while they were here goes on to count.
        clock_ms: Epoch milliseconds.
    """

    folder: Path
    people: People
    clock_ms: Callable[[], int]

    @property
    def ledger(self) -> Path:
        """File of the ledger."""
        return self.folder / LEDGER_FILE

    def read(self, seen: LedgerHead | None = None) -> Standing:
        """Return what a verified ledger says; an absent one says nothing.

        Args:
            seen: A head that the ledger must have had; None for none that is known.

        Raises:
            ModelRefused: `MODEL_LEDGER` for a ledger that was changed, cut off or torn,
                `MODEL_UNTRUSTED` for signatures that do not count, and the reasons of
                `Standing.after` for orders that the rules forbid.
        """
        return verify_ledger(self.ledger_bytes(), self.people, self.clock_ms(), seen)

    def ledger_bytes(self) -> bytes:
        """Return the ledger as it stands.

        Raises:
            ModelRefused: `MODEL_LEDGER`: it cannot be read, or is too long to be one.
        """
        try:
            with self.ledger.open("rb") as file:
                content = file.read(MAX_LEDGER_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError as exc:
            raise ledger_refused(f"{LEDGER_FILE} cannot be read: {exc.strerror}") from exc
        if len(content) > MAX_LEDGER_BYTES:
            raise ledger_refused(f"{LEDGER_FILE} has more than {MAX_LEDGER_BYTES} bytes")
        return content

    def path_of(self, model: ModelRef) -> Path:
        """Return where the artefact of a model is, or has to be."""
        return self.folder / "artefacts" / model.name / str(model.version)

    def load(self, standing: Standing, model: ModelRef) -> Artefact:
        """Return the artefact of an added model, with all its checks.

        Its signature must have counted on the day it was added, so a trainer may leave and the
        model stays.

        Raises:
            ModelRefused: As `load_artefact`; `MODEL_UNTRUSTED` too where it is not the one that
                was added, or is signed by another than the ledger says.
        """
        added = standing.added[str(model)]
        artefact = load_artefact(self.path_of(model), self.people, added.time_ms)
        # Of what was loaded, not of what lies there: a good model could be put there in between.
        if artefact.model_hash != model.manifest_sha256:
            msg = f"{self.path_of(model)}: it is not the artefact that was added as {model}"
            raise ModelRefused("MODEL_UNTRUSTED", msg)
        if artefact.trainer != added.order.trainer:
            msg = f"{model} is signed by {artefact.trainer!r}, not by who the ledger says"
            raise ModelRefused("MODEL_UNTRUSTED", msg)
        return artefact

    def load_hash(self, standing: Standing, model_hash: str) -> Artefact:
        """Return the artefact with a hash, as a decision names it, retired or not.

        Raises:
            ModelRefused: `MODEL_UNKNOWN` where none was ever added, else as `load`.
        """
        for entry in standing.added.values():
            if entry.order.model.manifest_sha256 == model_hash:
                return self.load(standing, entry.order.model)
        msg = f"{self.folder}: no model with the hash {model_hash} was ever added"
        raise ModelRefused("MODEL_UNKNOWN", msg)

    def load_champion(self, standing: Standing) -> Artefact:
        """Return the artefact that is to be served.

        Raises:
            ModelRefused: `MODEL_UNKNOWN` where none was promoted yet, else as `load`.
        """
        if standing.champion is None:
            msg = f"{self.folder}: no model is promoted yet (`fraudstream training promote`)"
            raise ModelRefused("MODEL_UNKNOWN", msg)
        return self.load(standing, standing.champion)


def verify_ledger(
    content: bytes, people: People, now_ms: int, seen: LedgerHead | None = None
) -> Standing:
    """Return what a ledger says, after checking every entry of it. Pure.

    >>> verify_ledger(b"", People({}), 0).head.sequence
    0

    Raises:
        ModelRefused: As `ModelRepository.read`.
    """
    standing = Standing()
    has_seen = seen is None or seen == standing.head
    for line in _whole_lines(content):
        entry = LedgerEntry.parse(line)
        if entry.time_ms > now_ms + FUTURE_MS:
            raise ledger_refused(f"entry {entry.sequence} is signed for a time to come")
        check_signer(entry, people)
        standing = standing.after(entry)
        has_seen = has_seen or standing.head == seen
    if not has_seen and seen is not None:
        raise _not_seen(standing.head, seen)
    return standing


def check_signer(entry: LedgerEntry, people: People) -> None:
    """Refuse an entry that nobody who may has signed, on the day that it says.

    Raises:
        ModelRefused: `MODEL_UNTRUSTED`, with the entry's number.
    """
    role = roles_for(entry.order.action)
    body = entry.signed_bytes()
    try:
        people.check(entry.signature, entry.purpose, body, role, entry.time_ms)
    except SignatureRefused as exc:
        raise ModelRefused("MODEL_UNTRUSTED", f"entry {entry.sequence}: {exc}") from exc


def read_head(path: Path) -> LedgerHead | None:
    """Return the head that was kept in a file, None where none was yet.

    Raises:
        InvalidSettings: The file holds something else.
    """
    try:
        return LedgerHead.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as exc:
        msg = f"{path}: expected the head of a ledger, as scoring keeps it"
        raise InvalidSettings(msg) from exc


def keep_head(path: Path, head: LedgerHead) -> None:
    """Keep a head in a file, all or nothing.

    Raises:
        InvalidSettings: The file cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(head.model_dump_json() + "\n")
        fresh.replace(path)
    except OSError as exc:
        msg = f"{path}: the ledger's head cannot be kept: {exc.strerror}"
        raise InvalidSettings(msg) from exc


def _whole_lines(content: bytes) -> list[bytes]:
    """Return the lines of a ledger; the last one must be whole too."""
    *lines, rest = content.split(b"\n")
    if rest:
        good = len(content) - len(rest)
        msg = (
            f"the last line of {LEDGER_FILE} is torn: a write was cut off after entry {len(lines)}."
            f" If no head of {len(lines) + 1} or more was ever seen, its order was not given: mend"
            f" it by `truncate -s {good} {LEDGER_FILE}` and sign the order again; else put back the"
            " whole ledger"
        )
        raise ledger_refused(msg)
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_BYTES:
            raise ledger_refused(f"line {number} has more than {MAX_LINE_BYTES} bytes")
    return lines


def _not_seen(head: LedgerHead, seen: LedgerHead) -> ModelRefused:
    if head.sequence < seen.sequence:
        msg = (
            f"the ledger ends with entry {head.sequence}, entry {seen.sequence} was seen before: "
            "its tail was cut off. Put the whole ledger back"
        )
        return ledger_refused(msg)
    return ledger_refused(f"entry {seen.sequence} is not the one that was seen before")
