"""Command line of the model repository: add, propose, promote, canary, rollback, shadow, retire."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from fraudstream.errors import InvalidSettings
from fraudstream.models.ledger_entry import MOST_PERMILLE, WHY_CHARACTERS, LedgerAction, LedgerHead
from fraudstream.models.promotion_rules import Standing
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms
from fraudstream.runtime.usage_parser import midnight_ms
from fraudstream.signing import People, Signer
from training.promotion import orders
from training.promotion.gate import GateReport
from training.promotion.ledger_writer import LedgerWriter
from training.promotion.status import document, show

_MODEL: Final = "NAME/VERSION, as `status` lists it"
_RULES: Final = """\
A model is promoted by two people: one approver proposes it, another approver signs the promotion.
Who signed the artefact may propose it and cannot approve it. Every order is an entry of the ledger,
signed with the key of the person who gives it, and never taken back.
Exit codes: 0 done, 64 wrong usage, 65 the gate or a rule says no, or the ledger does not hold
together, 77 a signature that does not count, 78 a file or setting is not as expected.
"""


class _Commands(Protocol):
    """What argparse gives for subcommands."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:
        """Return a new subcommand."""
        ...


def add_commands(commands: _Commands) -> None:
    """Add every command of the repository."""
    add = _signed(commands, "add", "check a signed artefact and put it in the repository", _add)
    add.add_argument("artefact", type=Path, help="folder of the artefact")
    _add_propose(commands)
    promote = _signed(commands, "promote", "approve the proposal of another person", _promote)
    canary = _signed(
        commands, "canary", "approve it for some cards, which go on to get that model", _canary
    )
    canary.add_argument(
        "--share-percent",
        dest="share_permille",
        type=_permille,
        required=True,
        metavar="PERCENT",
        help="share of all cards, 0.1 to 50. It ends by promote, rollback or retire",
    )
    for approved in (promote, canary):
        approved.add_argument("model", help=_MODEL)
        approved.add_argument(
            "--override",
            action="store_true",
            help="the gate was not passed and the proposal used --override: repeat it",
        )
    rollback = _signed(
        commands, "rollback", "make a former champion champion again, at once", _roll_back
    )
    rollback.add_argument(
        "model",
        nargs="?",
        help="NAME/VERSION; by default the last change is undone, which takes one approver: a"
        " canary ends, else the previous champion is back. Going back further takes a proposal"
        " (`propose --rollback`) of another one",
    )
    for action, words in (
        (LedgerAction.SHADOW, "let a challenger score beside the champion"),
        (LedgerAction.RETIRE, "end a challenger, or never serve a model again"),
    ):
        placed = _signed(commands, action.value, words, _place)
        placed.add_argument("model", help=_MODEL)
        placed.set_defaults(action=action)
    status = commands.add_parser("status", help="say what is served, and by whose order")
    _add_repository(status)
    status.add_argument("--json", action="store_true", help="for machines")
    status.set_defaults(run=_status)


def _add_propose(commands: _Commands) -> None:
    propose = _signed(commands, "propose", "test a challenger and propose it", _propose)
    propose.add_argument("model", help=_MODEL)
    propose.add_argument(
        "--data", type=Path, help="training set with matured rows; only a first model needs none"
    )
    propose.add_argument(
        "--from",
        dest="from_ms",
        type=midnight_ms,
        default=0,
        metavar="DAY",
        help="first day that counts: after what either model learned from",
    )
    propose.add_argument(
        "--maturity-days", type=int, default=7, help="how long labels take; newer rows are left out"
    )
    propose.add_argument(
        "--alert-budget",
        type=float,
        help="share of rows that may reach review, where it is not to stay the champion's",
    )
    propose.add_argument(
        "--latency-budget-us",
        type=float,
        help="p99 of the largest batch that is fast enough, whatever the champion's",
    )
    propose.add_argument(
        "--override", action="store_true", help="propose it though the gate says no"
    )
    propose.add_argument(
        "--rollback", action="store_true", help="propose to roll back to it; nothing is measured"
    )


def _signed(
    commands: _Commands, name: str, words: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Return a command whose order a person signs."""
    parser = commands.add_parser(name, help=words)
    parser.description = f"{words[0].upper()}{words[1:]}.\n\n{_RULES}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_repository(parser)
    parser.add_argument("--key", type=Path, required=True, help="private key of who orders it")
    parser.add_argument(
        "--why", required=True, type=_why, help="reason, for whoever reads the ledger"
    )
    parser.set_defaults(run=run)
    return parser


def _add_repository(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", type=Path, required=True, help="folder of the repository")
    parser.add_argument("--people", type=Path, required=True, help="file of people, public keys")
    parser.add_argument(
        "--head", help="SEQUENCE:SHA256 of an earlier `status`; a ledger without it is refused"
    )


def _permille(text: str) -> int:
    permille = float(text) * 10
    if permille != round(permille) or not 1 <= permille <= MOST_PERMILLE:
        msg = f"expected 0.1 to {MOST_PERMILLE / 10:g} in tenths, found {text}"
        raise argparse.ArgumentTypeError(msg)
    return round(permille)


def _why(text: str) -> str:
    shortest, longest = WHY_CHARACTERS
    if not shortest <= len(text.strip()) or len(text) > longest:
        msg = f"expected a reason of {shortest} to {longest} characters, found {len(text)}"
        raise argparse.ArgumentTypeError(msg)
    return text


def _repository(parsed: argparse.Namespace) -> ModelRepository:
    return ModelRepository(parsed.repository, People.load(parsed.people), epoch_ms)


def _head(parsed: argparse.Namespace) -> LedgerHead | None:
    return LedgerHead.parse(parsed.head) if parsed.head else None


def _writer(parsed: argparse.Namespace) -> LedgerWriter:
    return LedgerWriter(_repository(parsed), Signer.load(parsed.key), _head(parsed))


def _done(standing: Standing) -> int:
    print(show(standing))
    return 0


def _add(parsed: argparse.Namespace) -> int:
    return _done(orders.add_artefact(_writer(parsed), parsed.artefact, parsed.why))


def _promote(parsed: argparse.Namespace) -> int:
    writer = _writer(parsed)
    return _done(orders.promote(writer, parsed.model, parsed.why, is_override=parsed.override))


def _canary(parsed: argparse.Namespace) -> int:
    writer, share = _writer(parsed), parsed.share_permille
    return _done(
        orders.start_canary(writer, parsed.model, share, parsed.why, is_override=parsed.override)
    )


def _roll_back(parsed: argparse.Namespace) -> int:
    return _done(orders.roll_back(_writer(parsed), parsed.model, parsed.why))


def _place(parsed: argparse.Namespace) -> int:
    return _done(orders.place(_writer(parsed), parsed.action, parsed.model, parsed.why))


def _status(parsed: argparse.Namespace) -> int:
    standing = _repository(parsed).read(_head(parsed))
    if parsed.json:
        print(json.dumps(document(standing), indent=1))
        return 0
    return _done(standing)


def _propose(parsed: argparse.Namespace) -> int:
    writer = _writer(parsed)
    if parsed.rollback:
        return _done(orders.propose_rollback(writer, parsed.model, parsed.why))
    report = _measured(writer, parsed)
    for check in report.checks:
        result = "passed" if check.is_passed else "FAILED"
        print(f"{result}  {check.name:<16} {check.measured:.5g}  ({check.bound})", file=sys.stderr)
    return _done(orders.propose(writer, report, parsed.why, is_override=parsed.override))


def _measured(writer: LedgerWriter, parsed: argparse.Namespace) -> GateReport:
    """Return what the gate says of a challenger, after measuring it and the champion."""
    standing = writer.repository.read(writer.seen)
    challenger = orders.model_named(standing, parsed.model)
    champion = standing.champion
    if parsed.data is None:
        if champion is not None:
            msg = f"--data: expected a training set to compare {challenger} with {champion} on"
            raise InvalidSettings(msg)
        return GateReport(str(challenger), None, 0, 0, ())
    # Evaluation belongs to the training extra; the other orders need none of it.
    from training.promotion.bounds import GateBounds
    from training.promotion.gate import run_gate
    from training.promotion.measure import matured_rows, measure_contenders

    rows = matured_rows(parsed.data, parsed.from_ms, parsed.maturity_days)
    bounds = GateBounds(
        alert_budget=parsed.alert_budget, latency_budget_us=parsed.latency_budget_us
    )
    models = [challenger] if champion is None else [challenger, champion]
    artefacts = {str(model): writer.repository.load(standing, model) for model in models}
    found = measure_contenders(artefacts, rows.examples)
    return run_gate(
        found[str(challenger)], found[str(champion)] if champion else None, rows.matured, bounds
    )
