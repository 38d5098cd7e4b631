"""Rule sets as text, for tests."""

from __future__ import annotations

from typing import Final

from fraudstream.rules.program import RuleProgram
from fraudstream.rules.reading import ModelInputs
from fraudstream.rules.rule_set import RuleSet, parse_rule_set
from fraudstream.v1.transaction_pb2 import Channel, EntryMode, Transaction, TransactionKind

LISTS: Final = """
[lists.blocked_merchants]
kind = "block"
of = "merchant_id"
text = "Blocked"
entries = { "m-bad" = 2090-01-01, "m-old" = 2026-01-05 }

[lists.watched_ips]
kind = "watch"
of = "ip"
text = "Watched"
entries = { "2001:db8::1" = 2090-01-01T00:00:00Z }

[lists.good_customers]
kind = "allow"
of = "customer_id"
text = "Known for years"
entries = { "c-good" = 2090-01-01 }
"""
AT_MS: Final = 1_767_571_200_000  # 2026-01-05


def rule(code: str, when: str, action: str = "review") -> str:
    """Return one rule."""
    return f"""
[[rules]]
code = "{code}"
when = '''{when}'''
action = "{action}"
text = "Because of {code.lower()}"
"""


def rule_file(*tables: str, version: int = 1, stand_in: str = 'otherwise = "review"') -> str:
    """Return a rule set."""
    return f'id = "cards"\nversion = {version}\n[stand_in]\n{stand_in}\n{"".join(tables)}'


def rules_of(*tables: str, stand_in: str = 'otherwise = "review"') -> RuleSet:
    """Return a rule set that was read."""
    return parse_rule_set(rule_file(*tables, stand_in=stand_in))


def codes(program: RuleProgram, transaction: Transaction, inputs: ModelInputs | None) -> list[str]:
    """Return what speaks about a transaction."""
    return [signal.code for signal in program.signals(transaction, inputs)]


def purchase(**fields: object) -> Transaction:
    """Return a canonical purchase of 25 euros in a shop, changed as told."""
    transaction = Transaction(
        bank_id="bank",
        transaction_id="t-1",
        card_token="bank.k1." + "0" * 32,
        kind=TransactionKind.TRANSACTION_KIND_PURCHASE,
        merchant_id="m-1",
        mcc="5411",
        amount_minor=2_500,
        amount_reference_minor=2_500,
        currency="EUR",
        event_time_ms=AT_MS,
        channel=Channel.CHANNEL_POS,
        entry_mode=EntryMode.ENTRY_MODE_CHIP,
        country="DE",
    )
    for name, value in fields.items():
        setattr(transaction, name, value)
    return transaction
