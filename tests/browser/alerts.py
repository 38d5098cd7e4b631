"""Alerts for the console's tests: one exact alert, and a simulated day of them."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass

from fraudstream.broker.log_reader import LogRecord
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.topics import ALERTS
from fraudstream.transaction.identity import alert_id_of, digest_of, identity_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import (
    ACTION_CHALLENGE,
    ACTION_DECLINE,
    ACTION_REVIEW,
    Action,
    Decision,
    Reason,
)
from fraudstream.v1.features_pb2 import FeatureValue, SequenceStep
from fraudstream.v1.transaction_pb2 import (
    CHANNEL_ECOMMERCE,
    CHANNEL_POS,
    ENTRY_MODE_CONTACTLESS,
    ENTRY_MODE_MANUAL,
    TRANSACTION_KIND_PURCHASE,
    Transaction,
)

START_MS = 1_790_000_000_000
_REASONS = (
    ("CARD_VELOCITY", "9 purchases within the hour; this card makes 2 a day"),
    ("AMOUNT_UNUSUAL", "Amount 14 times this card's usual purchase"),
    ("TERMINAL_FRAUD", "A third of this terminal's settled purchases were frauds"),
    ("NEW_TERMINAL", "First purchase of this card at this terminal"),
    ("NIGHT", "Between midnight and 7 in the morning, local time"),
    ("TIME_GAP", "Four minutes after a purchase in another country"),
)
_MERCHANTS = (
    ("Juwelier Sommer", "5944"),
    ("Nordlicht Electronics", "5732"),
    ("Gamekeys Direct", "5816"),
    ("Aurora Travel", "4511"),
    ("City Express Market", "5411"),
    ("Casino Lumen", "7995"),
)


@dataclass(frozen=True, slots=True)
class AlertSpec:
    """What a test cares about in an alert; the rest is plausible."""

    number: int
    amount_minor: int = 129_900
    score: float = 0.87
    currency: str = "EUR"
    merchant: str = "Nordlicht Electronics"
    mcc: str = "5732"
    reason: str = "Amount 14 times this card's usual purchase"
    action: Action = ACTION_REVIEW
    raised_at_ms: int = START_MS


def make_alert(spec: AlertSpec) -> Alert:
    """Return the alert of a specification; the same one always gives the same bytes."""
    chance = random.Random(spec.number)  # noqa: S311  # a test needs no secrets
    mac = hashlib.sha256(str(spec.number).encode()).hexdigest()[:32]
    event_time_ms = spec.raised_at_ms - 1_500
    spent = Transaction(
        bank_id="demo-bank",
        transaction_id=f"tx-{spec.number:06d}",
        card_token=f"demo-bank.k1.{mac}",
        kind=TRANSACTION_KIND_PURCHASE,
        customer_id=f"customer-{spec.number % 97}",
        merchant_id=spec.merchant,
        terminal_id=f"terminal-{spec.number % 31}",
        mcc=spec.mcc,
        amount_minor=spec.amount_minor,
        currency=spec.currency,
        amount_reference_minor=spec.amount_minor,
        event_time_ms=event_time_ms,
        channel=CHANNEL_ECOMMERCE if spec.number % 2 else CHANNEL_POS,
        entry_mode=ENTRY_MODE_MANUAL if spec.number % 2 else ENTRY_MODE_CONTACTLESS,
        country="DE",
        device_id=f"device-{spec.number}" if spec.number % 2 else "",
        ip=f"192.0.2.{spec.number % 256}" if spec.number % 2 else "",
    )
    identity = identity_of(spent.bank_id, spent.card_token, spent.transaction_id)
    decision = Decision(
        decision_id=identity.hex(),
        digest=digest_of(spent),
        action=spec.action,
        score=spec.score,
        raw_score=spec.score,
        reasons=_reasons(spec, chance),
        model_hash=hashlib.sha256(b"model").hexdigest(),
        rule_set_hash=hashlib.sha256(b"rules").hexdigest()[:16],
        trace_id=hashlib.sha256(mac.encode()).hexdigest()[:32],
        event_time_ms=event_time_ms,
        bank_id=spent.bank_id,
        transaction_id=spent.transaction_id,
        card_token=spent.card_token,
        transaction=spent,
    )
    return Alert(
        alert_id=alert_id_of(identity),
        decision=decision,
        sequence=_sequence(spent, chance),
        features=_features(spent, chance),
        raised_at_ms=spec.raised_at_ms,
        expected_loss_minor=round(spec.score * spec.amount_minor),
    )


def record_of(alert: Alert, offset: int = 0) -> LogRecord:
    """Return the record of an alert, appended when it was raised."""
    value = alert.SerializeToString()
    return LogRecord(ALERTS.name, 0, offset, START_MS, b"", value, ())


def simulate_alerts(count: int, newest_ms: int) -> list[Alert]:
    """Return a plausible queue, newest last."""
    chance = random.Random(7)  # noqa: S311  # a test needs no secrets
    alerts = []
    for number in range(count):
        merchant, mcc = chance.choice(_MERCHANTS)
        score = min(0.995, 0.35 + 0.65 * chance.random() ** 0.6)
        spec = AlertSpec(
            number=number + 1,
            amount_minor=round(math.exp(chance.gauss(10.4, 1.1))),
            score=score,
            currency=chance.choice(("EUR", "EUR", "EUR", "GBP", "JPY")),
            merchant=merchant,
            mcc=mcc,
            reason=chance.choice(_REASONS)[1],
            action=ACTION_DECLINE
            if score > 0.9
            else ACTION_REVIEW
            if score > 0.6
            else ACTION_CHALLENGE,
            raised_at_ms=newest_ms - (count - number) * 97_000,
        )
        alerts.append(make_alert(spec))
    return alerts


def _reasons(spec: AlertSpec, chance: random.Random) -> list[Reason]:
    others = [(code, text) for code, text in _REASONS if text != spec.reason]
    reasons = [Reason(code="TOP", text=spec.reason, contribution=2.4)]
    for code, text in chance.sample(others, 3):
        reasons.append(Reason(code=code, text=text, contribution=chance.uniform(0.3, 2.0)))
    known = Reason(code="KNOWN_CUSTOMER", text="Card in use for 14 months", contribution=-0.7)
    return [*reasons, known]


def _sequence(spent: Transaction, chance: random.Random) -> list[SequenceStep]:
    steps, time_ms = [], spent.event_time_ms
    for place in range(18):
        is_current = place == 0
        amount = spent.amount_reference_minor if is_current else chance.randrange(600, 9_000)
        steps.append(
            SequenceStep(
                event_time_ms=time_ms,
                amount_reference_minor=amount,
                kind=TRANSACTION_KIND_PURCHASE,
                channel=spent.channel if is_current else CHANNEL_POS,
                mcc=spent.mcc if is_current else chance.choice(("5411", "5812", "5541", "5912")),
            )
        )
        time_ms -= chance.randrange(120_000, 400_000 if place < 4 else 90_000_000)
    return steps[::-1]


def _features(spent: Transaction, chance: random.Random) -> list[FeatureValue]:
    values = [FeatureValue(name=FEATURE_NAMES[0], value=spent.amount_reference_minor)]
    values += [
        FeatureValue(name=name, value=round(chance.uniform(0, 40), 2))
        for name in FEATURE_NAMES[1:-1]
    ]
    return [*values, FeatureValue(name=FEATURE_NAMES[-1], value=math.nan)]
