"""Grants: what a token or certificate opens, until when, and what a refusal says."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings, PermissionDenied, Unauthenticated
from services.scoring.cli.main import main
from services.scoring.rpc.grants import (
    AccessRole,
    Grant,
    Grants,
    check_role,
    new_token,
    token_digest,
)
from services.scoring.settings import ScoringSettings

LAST_DAY = date(2026, 3, 31)
NOON_MS = int(datetime(2026, 3, 31, 12, tzinfo=UTC).timestamp() * 1000)
MIDNIGHT_MS = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp() * 1000)


def by_token(token: str, role: AccessRole = AccessRole.CALLER) -> Grant:
    """Return a grant of a token."""
    digest = token_digest(token).hex()
    banks = ("bank-north",) if role is AccessRole.CALLER else None
    return Grant(name="switch-1", role=role, until=LAST_DAY, token_sha256=digest, banks=banks)


def test_token_opens_until_the_end_of_its_last_day() -> None:
    """The last day counts whole, in UTC; the next one does not."""
    token = new_token()
    grants = Grants([by_token(token)])

    assert grants.by_token(token, MIDNIGHT_MS - 1).name == "switch-1"
    with pytest.raises(Unauthenticated, match="2026-03-31"):
        grants.by_token(token, MIDNIGHT_MS)


@pytest.mark.parametrize("token", ["", "guess", "fs1_" + "A" * 43, "x" * 100_000, "ключ"])
def test_unknown_token_is_refused_without_being_named(token: str) -> None:
    """A refusal says nothing that was in the token."""
    with pytest.raises(Unauthenticated) as refused:
        Grants([by_token(new_token())]).by_token(token, NOON_MS)

    assert not token or token not in str(refused.value)


def test_two_tokens_of_one_name_open() -> None:
    """A system changes its token while both count."""
    old, new = new_token(), new_token()
    grants = Grants([by_token(old), by_token(new)])

    assert grants.by_token(old, NOON_MS) != grants.by_token(new, NOON_MS)


def test_certificate_opens_by_its_first_known_name() -> None:
    """Names that nobody granted are passed over; none at all is refused and listed."""
    grant = Grant(
        name="features", role=AccessRole.FEATURES, until=LAST_DAY, certificate="features.bank"
    )
    grants = Grants([grant])

    assert grants.by_certificate(["127.0.0.1", "features.bank"], NOON_MS) == grant
    with pytest.raises(Unauthenticated, match=r"other\.bank"):
        grants.by_certificate(["other.bank"], NOON_MS)


def test_other_role_is_denied_with_both_roles_named() -> None:
    """Whoever reads the message knows what to ask for."""
    with pytest.raises(PermissionDenied, match=r"caller.*expects features"):
        check_role(by_token(new_token()), AccessRole.FEATURES, "InternalScoring")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"callers": [{"name": "a", "role": "caller", "until": "2026-01-01"}]}',
        '{"callers": [{"name": "a", "role": "root", "until": "2026-01-01", "certificate": "a"}]}',
        '{"callers": [{"name": "a", "role": "caller", "until": "soon", "certificate": "a"}]}',
        '{"callers": [{"name": "a", "role": "caller", "until": "2026-01-01", "token": "t"}]}',
    ],
)
def test_malformed_file_is_refused(text: str) -> None:
    """A half-understood grant would be a hole."""
    with pytest.raises(InvalidSettings, match="expected callers"):
        Grants.parse(text)


def told_callers(**caller: object) -> str:
    """Return a callers file with one entry."""
    entry = {"name": "a", "role": "caller", "until": "2199-01-01", "certificate": "a", **caller}
    return json.dumps({"callers": [entry]})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, r'expected "banks".*\["bank-north"\], or \["\*"\] for all'),
        ({"banks": []}, "banks.*at least 1"),
        ({"banks": ["*", "b"]}, r'expected \["\*"\] alone'),
        ({"banks": ["bank north"]}, "banks"),
        ({"role": "features", "banks": ["b"]}, "expected no banks for the role features"),
    ],
)
def test_file_that_leaves_open_for_which_bank_is_refused(
    entry: dict[str, object], expected: str
) -> None:
    """An entry of before banks were asked for says what to write into it."""
    with pytest.raises(InvalidSettings, match=expected):
        Grants.parse(told_callers(**entry))


def test_grant_is_for_its_banks_or_for_all() -> None:
    """A bank's system has its bank, a processor several or all; no other role has any."""
    north = by_token(new_token())
    every = Grant.model_validate({**json.loads(told_callers(banks=["*"]))["callers"][0]})

    assert north.is_for("bank-north")
    assert not north.is_for("bank-south")
    assert not north.is_for("bank-north2")
    assert every.is_for("bank-south")
    assert not by_token(new_token(), AccessRole.FEATURES).is_for("bank-north")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["--role", "caller"], "--bank: expected one for the role caller"),
        (["--role", "features", "--bank", "b"], "--bank: expected none for this role"),
        (["--role", "caller", "--bank", "*", "--bank", "b"], r"bank ids.*'\*' alone"),
        (["--role", "caller", "--bank", "bank north"], "bank ids"),
    ],
)
def test_command_asks_for_the_banks_of_a_caller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], told: list[str], expected: str
) -> None:
    """No file is written for a grant that would say too little or too much."""
    file = tmp_path / "callers.json"
    given = ["token", "--until", "2199-12-31", "--file", str(file), "--name", "a", *told]

    try:
        code = main(given)
    except SystemExit as exc:
        code = int(exc.code or 0)

    assert code in (64, 78)
    assert re.search(expected, capsys.readouterr().err)
    assert not file.exists()


def test_same_token_twice_is_refused() -> None:
    """One token with two roles would have the one that is read last."""
    token = new_token()

    with pytest.raises(InvalidSettings, match="once"):
        Grants([by_token(token), by_token(token, AccessRole.OPERATOR)])


def test_command_shows_the_token_once_and_keeps_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds what checks tokens, not what opens; a second one is added to it."""
    file = tmp_path / "callers.json"
    arguments = ["token", "--until", "2199-12-31", "--file", str(file)]

    named = ["--role", "caller", "--name", "switch-1", "--bank", "bank-north"]
    assert main([*arguments, *named]) == 0
    token = capsys.readouterr().out.strip()
    assert main([*arguments, "--role", "features", "--name", "f", "--certificate", "f.bank"]) == 0

    grants = Grants.parse(file.read_text())
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o400
    assert grants.by_token(token, NOON_MS).role is AccessRole.CALLER
    assert grants.by_certificate(["f.bank"], NOON_MS).role is AccessRole.FEATURES
    printed = capsys.readouterr()
    assert not printed.out
    assert "by the certificate" in printed.err


def told(**settings: object) -> ScoringSettings:
    """Return these settings."""
    return ScoringSettings.model_validate(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.7", "::", "scoring.bank", "127.evil.bank"])  # noqa: S104
def test_open_listener_is_refused_with_the_way_out(host: str) -> None:
    """Beyond loopback TLS and a callers file are expected, or a word that somebody else guards."""
    with pytest.raises(ValueError, match=r"tls_cert_file.*callers_file.*trusts_network") as refused:
        told(host=host)

    assert "no TLS and no callers file" in str(refused.value)
    assert told(host=host, trusts_network=True)
    assert told(host=host, tls_cert_file="a", tls_key_file="b", callers_file="c")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_loopback_needs_neither(host: str) -> None:
    """A laptop starts without keys."""
    assert told(host=host)


@pytest.mark.parametrize(
    "half", [{"tls_cert_file": "a"}, {"tls_key_file": "a"}, {"tls_client_ca_file": "a"}]
)
def test_half_of_tls_is_refused(half: dict[str, str]) -> None:
    """A key without its certificate is a mistake, not a wish for no TLS."""
    with pytest.raises(ValueError, match="expected"):
        told(**half)
