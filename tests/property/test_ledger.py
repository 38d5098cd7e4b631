"""Any ledger, any byte of it: a change is found."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from fraudstream.errors import ModelRefused
from fraudstream.models.ledger_entry import LedgerAction, LedgerEntry, ModelRef, Order
from fraudstream.models.promotion_rules import Standing
from fraudstream.models.repository import verify_ledger
from fraudstream.signing import People, Signer, SignerRole

NOW_MS: Final = 1_764_115_200_000
SIGNERS: Final = [Signer(name, SigningKey(name.encode() * 16)) for name in ("al", "bo", "cy")]
PEOPLE: Final = People.of([signer.person(tuple(SignerRole), "2026-12-31") for signer in SIGNERS])
EVIDENCE: Final = "e5" * 32
_WITH_EVIDENCE: Final = (LedgerAction.PROPOSE, LedgerAction.PROMOTE, LedgerAction.CANARY)


@st.composite
def orders(draw: st.DrawFn) -> tuple[Signer, Order]:
    """Return some order of somebody; most of them are not allowed at most times."""
    action = draw(st.sampled_from(LedgerAction))
    version = draw(st.integers(1, 3))
    signer = draw(st.sampled_from(SIGNERS))
    asks = draw(st.sampled_from([LedgerAction.PROMOTE, LedgerAction.ROLLBACK]))
    order = Order(
        action=action,
        model=ModelRef(name="lstm", version=version, manifest_sha256=f"{version:064x}"),
        why=draw(st.text(min_size=3, max_size=20)),
        trainer=signer.name if action is LedgerAction.ADD else None,
        asks=asks if action is LedgerAction.PROPOSE else None,
        evidence=EVIDENCE if action in _WITH_EVIDENCE else None,
        is_override=draw(st.booleans()),
        share_permille=draw(st.integers(1, 500)) if action is LedgerAction.CANARY else None,
    )
    return signer, order


@st.composite
def ledgers(draw: st.DrawFn) -> bytes:
    """Return a good ledger: of many orders those that the rules allow."""
    standing, lines, time_ms = Standing(), [], NOW_MS
    for signer, order in draw(st.lists(orders(), min_size=1, max_size=25)):
        time_ms += draw(st.integers(0, 1_000))
        entry = LedgerEntry.sign(order, standing.head, time_ms, signer)
        try:
            standing = standing.after(entry)
        except ModelRefused:
            continue
        lines.append(entry.line() + b"\n")
    return b"".join(lines)


@settings(max_examples=60, deadline=None)
@given(ledgers())
def test_good_ledger_is_read_to_its_end(ledger: bytes) -> None:
    """What was allowed when it was written is allowed when it is read."""
    standing = verify_ledger(ledger, PEOPLE, NOW_MS + 60_000)

    assert standing.head.sequence == ledger.count(b"\n")


@settings(max_examples=300, deadline=None)
@given(ledgers().filter(bool), st.data())
def test_any_changed_byte_is_found(ledger: bytes, data: st.DataObject) -> None:
    """A byte changed, taken out or put in anywhere makes a ledger that is refused."""
    place = data.draw(st.integers(0, len(ledger) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != ledger[place]))
    kind = data.draw(st.sampled_from(["changed", "taken out", "put in"]))
    inserted = ledger[:place] + bytes([byte]) + ledger[place:]
    forged = {
        "changed": ledger[:place] + bytes([byte]) + ledger[place + 1 :],
        "taken out": ledger[:place] + ledger[place + 1 :],
        "put in": inserted,
    }[kind]

    with pytest.raises(ModelRefused):
        verify_ledger(forged, PEOPLE, NOW_MS + 60_000)


@settings(max_examples=60, deadline=None)
@given(ledgers().filter(bool), st.data())
def test_any_cut_is_found_by_a_kept_head(ledger: bytes, data: st.DataObject) -> None:
    """Whoever saw the head knows that a shorter ledger lacks something."""
    seen = verify_ledger(ledger, PEOPLE, NOW_MS + 60_000).head
    kept = data.draw(st.integers(0, len(ledger) - 1))

    with pytest.raises(ModelRefused) as refused:
        verify_ledger(ledger[:kept], PEOPLE, NOW_MS + 60_000, seen)

    assert refused.value.reason == "MODEL_LEDGER"
