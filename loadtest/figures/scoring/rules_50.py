"""Fifty realistic rules and three lists on one transaction, from verdict to ruled verdict.

That is the stage as both doors call it: the lists looked up, the variables read from message and
vector and copied into the evaluator, one program evaluated, action and reasons put together. The
rules (`rules_50.toml`) read 10 fields and 37 features; the vectors are the golden rows of the
demo's model, so they are as sparse and as whole as features are. CPU time of one thread, all warm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from fraudstream.engines.protocol import FloatArray
from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_NAMES
from fraudstream.models.artefact import read_artefact
from fraudstream.models.calibration import Thresholds
from fraudstream.v1.transaction_pb2 import Channel, EntryMode, Transaction, TransactionKind
from harness.model_repository import DEMO_MODEL
from loadtest.bench.cpu import spent
from loadtest.bench.figure import Plan, Sides, experiment, taken
from loadtest.figures.table import figure
from services.scoring.decision.maker import apply_rules
from services.scoring.decision.rules_follower import load_rule_set
from services.scoring.decision.verdict import Verdict, action_of
from services.scoring.reasons.texts import FITS

RULES: Final = Path(__file__).with_name("rules_50.toml")
ROWS: Final = 20_000
_DISTINCT: Final = 1_000
_THRESHOLDS: Final = Thresholds(challenge=0.2, review=0.5, decline=0.9)
_MCCS: Final = ("5411", "5812", "5732", "6051", "7995", "5541", "5944", "4829")
_CHANNELS: Final = (
    Channel.CHANNEL_POS,
    Channel.CHANNEL_ECOMMERCE,
    Channel.CHANNEL_ATM,
    Channel.CHANNEL_MOTO,
    Channel.CHANNEL_RECURRING,
)
_ENTRY_MODES: Final = (
    EntryMode.ENTRY_MODE_CHIP,
    EntryMode.ENTRY_MODE_MAGSTRIPE,
    EntryMode.ENTRY_MODE_MANUAL,
)
_COUNTRIES: Final = ("DE", "AT", "FR", "US", "SC")


@experiment(figure("rules_50_us", taken("model", "cpu_us")))
def rules_50(plan: Plan) -> Iterator[Sides]:
    """Compile the rules, make the rows, and apply the rules to every row."""
    count, program, random = plan.rows(ROWS), load_rule_set(RULES), np.random.default_rng(7)
    transactions = [_transaction(number) for number in range(_DISTINCT)]
    vectors = _golden_vectors()[random.integers(0, 256, _DISTINCT)]
    verdicts = [
        Verdict(action_of(score, _THRESHOLDS), score, score, FITS)
        for score in random.beta(0.3, 6.0, _DISTINCT).tolist()
    ]

    def apply() -> None:
        for number in range(count):
            i = number % _DISTINCT
            apply_rules(program, transactions[i], verdicts[i], vectors[i], FEATURE_HASHES)

    apply()
    yield {"model": lambda: spent(apply, count)}


def _golden_vectors() -> FloatArray:
    """Return the vectors of the demo model's golden rows, float32 [n, F] of the catalogue."""
    artefact = read_artefact(DEMO_MODEL)
    golden, names = artefact.golden.vectors, artefact.manifest.feature_names
    vectors = np.zeros((len(golden), len(FEATURE_NAMES)), np.float32)
    vectors[:, [FEATURE_NAMES.index(name) for name in names]] = golden
    return vectors


def _transaction(number: int) -> Transaction:
    """Return one of many transactions, as the door has it."""
    return Transaction(
        bank_id="bank",
        transaction_id=f"t-{number}",
        card_token=f"bank.k1.{number:032x}",
        kind=TransactionKind.TRANSACTION_KIND_PURCHASE,
        customer_id=f"customer-{number}",
        merchant_id=f"merchant-{number % 97}",
        terminal_id=f"terminal-{number % 89}",
        mcc=_MCCS[number % len(_MCCS)],
        amount_minor=100 * (number % 700),
        amount_reference_minor=100 * (number % 700),
        currency="EUR",
        event_time_ms=1_767_571_200_000 + number,
        channel=_CHANNELS[number % len(_CHANNELS)],
        entry_mode=_ENTRY_MODES[number % len(_ENTRY_MODES)],
        country=_COUNTRIES[number % len(_COUNTRIES)],
        device_id=f"device-{number % 71}",
        ip="192.0.2.1",
    )
