"""Messages for the archive's tests, and what is read back of its files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.archive.files import list_files
from fraudstream.features.catalogue import FEATURE_NAMES, FEATURE_SET_HASH
from fraudstream.transaction.identity import digest_of, identity_of
from fraudstream.v1.decision_pb2 import (
    AcceptedTransaction,
    Decision,
    LogCoordinates,
    Reason,
    ShadowScore,
)
from fraudstream.v1.label_pb2 import Label
from fraudstream.v1.transaction_pb2 import Location, Transaction

EVENT_MS: Final = 1_700_000_000_000
VECTOR: Final = np.arange(len(FEATURE_NAMES), dtype=np.float32)


def transaction(number: int) -> Transaction:
    """Return an accepted transaction with every field set."""
    return Transaction(
        bank_id="bank-north",
        transaction_id=f"t{number}",
        card_token=f"bank-north.k1.{number:032x}",
        kind="TRANSACTION_KIND_PURCHASE",
        customer_id="c1",
        merchant_id="m1",
        terminal_id="x1",
        mcc="5411",
        amount_minor=1_000 + number,
        currency="USD",
        amount_reference_minor=900 + number,
        event_time_ms=EVENT_MS + number,
        utc_offset_minutes=-300,
        channel="CHANNEL_POS",
        entry_mode="ENTRY_MODE_CHIP",
        country="US",
        device_id="d1",
        ip="192.0.2.1",
        location=Location(latitude=40.5, longitude=-73.5),
    )


def accepted(number: int) -> AcceptedTransaction:
    """Return a row of the accepted topic."""
    return AcceptedTransaction(transaction=transaction(number), raw_append_time_ms=EVENT_MS)


def decision(number: int) -> Decision:
    """Return a decision about a transaction of the stream, with the catalogue's vector."""
    spent = transaction(number)
    return Decision(
        decision_id=identity_of(spent.bank_id, spent.card_token, spent.transaction_id).hex(),
        bank_id=spent.bank_id,
        transaction_id=spent.transaction_id,
        card_token=spent.card_token,
        digest=digest_of(spent),
        action="ACTION_REVIEW",
        score=0.25,
        raw_score=0.5,
        reasons=[Reason(code="R1", text="why"), Reason(code="R2")],
        model_hash="a1",
        feature_set_hash=FEATURE_SET_HASH,
        coordinates=LogCoordinates(topic_id=bytes(range(16)), partition=2, offset=number),
        trace_id=f"{number:032x}",
        event_time_ms=spent.event_time_ms,
        vector=VECTOR.tobytes(),
        sequence=bytes(8),
        transaction=spent,
    )


def shadow(number: int) -> ShadowScore:
    """Return what a challenger says of it."""
    made = decision(number)
    return ShadowScore(
        decision_id=made.decision_id,
        bank_id=made.bank_id,
        event_time_ms=made.event_time_ms,
        transaction_id=made.transaction_id,
        card_token=made.card_token,
        model_hash="b2",
        score=0.75,
        action="ACTION_DECLINE",
    )


def label(number: int) -> Label:
    """Return a chargeback."""
    spent = transaction(number)
    return Label(
        label_id=f"l{number}",
        bank_id=spent.bank_id,
        transaction_id=spent.transaction_id,
        card_token=spent.card_token,
        event_time_ms=spent.event_time_ms,
        disposition="DISPOSITION_CONFIRMED_FRAUD",
        source="LABEL_SOURCE_CHARGEBACK",
        settled_at_ms=spent.event_time_ms + 5,
    )


def archived(root: Path, noun: str) -> pa.Table:
    """Return what the archive holds of a noun, in its order; each file on its own is whole."""
    tables = [pq.ParquetFile(file.path).read() for file in list_files(root / noun)]
    return pa.concat_tables(tables) if tables else pa.table({"transaction_id": []})


def transaction_ids(root: Path, noun: str) -> list[str]:
    """Return the transaction ids of a noun's rows, sorted, each as often as it is there."""
    found: Iterable[str] = archived(root, noun)["transaction_id"].to_pylist()
    return sorted(found)
