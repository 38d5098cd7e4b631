"""The orders that a person can give, each as one signed entry of the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from fraudstream.errors import ModelRefused
from fraudstream.models.artefact import load_artefact
from fraudstream.models.ledger_entry import LedgerAction, ModelRef, Order
from fraudstream.models.promotion_rules import Standing
from training.promotion.gate import GateReport
from training.promotion.ledger_writer import LedgerWriter


def add_artefact(writer: LedgerWriter, source: Path, why: str) -> Standing:
    """Check a signed artefact, copy it into the repository, and write its addition.

    Raises:
        ModelRefused: It is not fit to serve, its version is there already, or the signer may not.
        InvalidSettings: The repository cannot be written.
    """
    repository = writer.repository
    artefact = load_artefact(source, repository.people, repository.clock_ms())
    manifest = artefact.manifest
    model = ModelRef(
        name=manifest.name, version=manifest.version, manifest_sha256=artefact.model_hash
    )
    writer.place_artefact(source, repository.path_of(model))
    order = Order(action=LedgerAction.ADD, model=model, why=why, trainer=artefact.trainer)
    return writer.append(lambda _: order)


def propose(
    writer: LedgerWriter, report: GateReport, why: str, *, is_override: bool = False
) -> Standing:
    """Keep a gate's report as evidence and propose its challenger for promotion.

    Raises:
        ModelRefused: `MODEL_GATE`: it failed and that is not overridden; the report is kept. Or the
            rules forbid it.
        InvalidSettings: The repository cannot be written.
    """
    text = json.dumps(report.document(), indent=1, sort_keys=True) + "\n"
    evidence, kept = writer.keep_evidence(text.encode())
    if not report.is_passed and not is_override:
        msg = f"{report.challenger} does not pass: {', '.join(report.failed)}; the report is {kept}"
        raise ModelRefused("MODEL_GATE", msg)

    def order(standing: Standing) -> Order:
        _check_is_current(standing, report)
        return Order(
            action=LedgerAction.PROPOSE,
            model=model_named(standing, report.challenger),
            why=why,
            asks=LedgerAction.PROMOTE,
            evidence=evidence,
            is_override=not report.is_passed,
        )

    return writer.append(order)


def propose_rollback(writer: LedgerWriter, name: str, why: str) -> Standing:
    """Propose to roll back further than to the previous champion; that takes no evidence.

    Raises:
        ModelRefused: The rules forbid it.
        InvalidSettings: The repository cannot be written.
    """
    return writer.append(
        lambda standing: Order(
            action=LedgerAction.PROPOSE,
            model=model_named(standing, name),
            why=why,
            asks=LedgerAction.ROLLBACK,
        )
    )


def promote(writer: LedgerWriter, name: str, why: str, *, is_override: bool = False) -> Standing:
    """Approve the open proposal of a model, on the evidence that it rests on.

    Raises:
        ModelRefused: The rules forbid it, or the evidence is not there as it was proposed.
        InvalidSettings: The repository cannot be written.
    """
    return _approve(writer, LedgerAction.PROMOTE, name, {"why": why, "is_override": is_override})


def start_canary(
    writer: LedgerWriter, name: str, share_permille: int, why: str, *, is_override: bool = False
) -> Standing:
    """Approve the open proposal of a model for a share of the cards; it stays open.

    Raises:
        ModelRefused: The rules forbid it, or the evidence is not there as it was proposed.
        InvalidSettings: The repository cannot be written.
    """
    said = {"why": why, "is_override": is_override, "share_permille": share_permille}
    return _approve(writer, LedgerAction.CANARY, name, said)


def _approve(
    writer: LedgerWriter, action: LedgerAction, name: str, said: Mapping[str, object]
) -> Standing:
    def order(standing: Standing) -> Order:
        proposal = standing.proposals.get(name)
        evidence = proposal.order.evidence if proposal else None
        if evidence is not None:
            writer.check_evidence(evidence)
        model = model_named(standing, name)
        fields = {"action": action, "model": model, "evidence": evidence, **said}
        return Order.model_validate(fields)

    return writer.append(order)


def roll_back(writer: LedgerWriter, name: str | None, why: str) -> Standing:
    """Make a former champion champion again.

    Where none is named, the last change is undone: a canary ends and the champion decides all cards
    again, else the previous champion is champion again.

    Raises:
        ModelRefused: The rules forbid it, or there is none.
        InvalidSettings: The repository cannot be written.
    """

    def order(standing: Standing) -> Order:
        before = standing.previous if standing.canary is None else standing.champion
        model = model_named(standing, name) if name else before
        if model is None:
            raise ModelRefused("MODEL_ROLLBACK", "there is no champion before this one")
        return Order(action=LedgerAction.ROLLBACK, model=model, why=why)

    return writer.append(order)


def place(writer: LedgerWriter, action: LedgerAction, name: str, why: str) -> Standing:
    """Let a challenger score beside the champion, or retire a model.

    Args:
        writer: Where.
        action: `shadow` or `retire`.
        name: NAME/VERSION.
        why: In words.

    Raises:
        ModelRefused: The rules forbid it.
        InvalidSettings: The repository cannot be written.
    """
    return writer.append(
        lambda standing: Order(action=action, model=model_named(standing, name), why=why)
    )


def model_named(standing: Standing, name: str) -> ModelRef:
    """Return an added model by NAME/VERSION.

    Raises:
        ModelRefused: `MODEL_UNKNOWN`: there is none.
    """
    added = standing.added.get(name)
    if added is None:
        known = ", ".join(standing.added) or "none"
        msg = f"{name} is not in the repository; it has {known}"
        raise ModelRefused("MODEL_UNKNOWN", msg)
    return added.order.model


def _check_is_current(standing: Standing, report: GateReport) -> None:
    champion = str(standing.champion) if standing.champion else None
    if champion != report.champion:
        msg = f"the champion became {champion} while {report.challenger} was measured; again"
        raise ModelRefused("MODEL_PROPOSAL", msg)
