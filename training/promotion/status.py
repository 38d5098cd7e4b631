"""What the ledger says, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from fraudstream.models.ledger_entry import LedgerEntry
from fraudstream.models.promotion_rules import Standing


def show(standing: Standing) -> str:
    """Return the standing as a table for people."""
    return "\n".join(_lines(standing))


def document(standing: Standing) -> dict[str, object]:
    """Return the standing as JSON values."""
    return {
        "champion": _name(standing.champions, -1),
        "previous": _name(standing.champions, -2),
        "canary": _entry(standing.canary) if standing.canary else None,
        "challengers": list(standing.shadows),
        "proposals": [_entry(entry) for entry in standing.proposals.values()],
        "retired": list(standing.retired),
        "models": [_entry(entry) for entry in standing.added.values()],
        "head": str(standing.head),
    }


def _lines(standing: Standing) -> Iterator[str]:
    champion = standing.champions[-1] if standing.champions else None
    yield f"champion     {_said(champion)}"
    yield f"previous     {standing.previous or 'none'}"
    if standing.canary is not None:
        share = (standing.canary.order.share_permille or 0) / 10
        yield f"canary       {share:g} % of the cards: {_said(standing.canary)}"
    for entry in standing.shadows.values():
        yield f"challenger   {_said(entry)}"
    for entry in standing.proposals.values():
        override = ", overriding the gate" if entry.order.is_override else ""
        yield f"proposal     to {entry.order.asks} {_said(entry)}{override}"
    yield ""
    yield f"{'model':<24} {'added':<17} {'trainer':<16} state"
    for name, entry in standing.added.items():
        day = _time(entry)[:16]
        yield f"{name:<24} {day:<17} {entry.order.trainer or '':<16} {_state(standing, name)}"
    yield ""
    yield f"head         {standing.head}"


def _said(entry: LedgerEntry | None) -> str:
    if entry is None:
        return "none"
    return f"{entry.order.model}  {_time(entry)}  by {entry.signer}: {entry.order.why}"


def _state(standing: Standing, name: str) -> str:
    if name == str(standing.champion):
        return "champion"
    if standing.canary is not None and name == str(standing.canary.order.model):
        return "canary"
    for state, names in {
        "challenger": standing.shadows,
        "proposed": standing.proposals,
        "retired": standing.retired,
    }.items():
        if name in names:
            return state
    is_former = name in {str(entry.order.model) for entry in standing.champions}
    return "former champion" if is_former else ""


def _entry(entry: LedgerEntry) -> dict[str, object]:
    order = entry.order
    return {
        "model": str(order.model),
        "manifest_sha256": order.model.manifest_sha256,
        "sequence": entry.sequence,
        "time": _time(entry),
        "by": entry.signer,
        "why": order.why,
        "trainer": order.trainer,
        "asks": order.asks,
        "evidence": order.evidence,
        "is_override": order.is_override,
        "share_permille": order.share_permille,
    }


def _name(entries: Sequence[LedgerEntry], place: int) -> str | None:
    return str(entries[place].order.model) if len(entries) >= -place else None


def _time(entry: LedgerEntry) -> str:
    moment = datetime.fromtimestamp(entry.time_ms / 1_000, UTC)
    return moment.strftime("%Y-%m-%d %H:%MZ")
