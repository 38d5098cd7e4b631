"""Refusals in the log: who, from where, what and why, and no more than a line a minute."""

from __future__ import annotations

import pytest

from fraudstream.errors import PermissionDenied, QuotaExceeded
from services.scoring.rpc.refusals import RefusalLog

DENIED = PermissionDenied("another bank's")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged."""
    return [record.getMessage() for record in caplog.records]


def test_refusal_says_who_where_what_and_why(caplog: pytest.LogCaptureFixture) -> None:
    """PCI DSS 4, 10.2.2: enough to find the caller; the port is no part of who it is."""
    RefusalLog(lambda: 0.0).note("switch-1", "ipv4:10.0.0.7:5000", "Score", DENIED)

    assert lines(caplog) == [
        "refused switch-1 at ipv4:10.0.0.7: Score, PermissionDenied: another bank's"
    ]


def test_repeated_refusals_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A loop of refused calls writes a line a minute, and the line says how many they were."""
    now_s = [0.0]
    log = RefusalLog(lambda: now_s[0])
    for port in range(100):
        log.note("switch-1", f"ipv4:10.0.0.7:{port}", "Score", DENIED)
    now_s[0] = 61.0

    log.note("switch-1", "ipv4:10.0.0.7:1", "Score", DENIED)

    assert len(lines(caplog)) == 2
    assert lines(caplog)[1].endswith("another bank's, and 99 like it before")


def test_other_kinds_have_lines_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    """One caller's flood hides no other's first refusal."""
    log = RefusalLog(lambda: 0.0)
    for who, error in (("a", DENIED), ("b", DENIED), ("a", QuotaExceeded("spent"))):
        log.note(who, "ipv4:10.0.0.7:1", "Score", error)

    assert len(lines(caplog)) == 3


def test_many_peers_fill_neither_log_nor_memory(caplog: pytest.LogCaptureFixture) -> None:
    """An attacker with a network of addresses gets a few hundred lines a minute for all of them."""
    log = RefusalLog(lambda: 0.0)
    for host in range(5_000):
        log.note("no token", f"ipv6:[fd00:0:{host:x}::1]:1", "Score", DENIED)

    assert len(lines(caplog)) <= 257
    assert "others" in lines(caplog)[-1]


def test_a_network_of_ipv6_is_one_peer(caplog: pytest.LogCaptureFixture) -> None:
    """Who has a /64 crowds no other's refusals out; the line has the whole address."""
    log = RefusalLog(lambda: 0.0)
    for host in range(1, 1_000):
        log.note("no token", f"ipv6:[fd00::{host:x}]:1", "Score", DENIED)

    assert len(lines(caplog)) == 1
    assert "at ipv6:[fd00::1]: Score" in lines(caplog)[0]
