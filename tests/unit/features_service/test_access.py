"""How features shows scoring who it is: what its settings lead to, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings
from services.features.settings import FeaturesSettings
from tests.servers.tls_files import TestCa


def told(**files: Path) -> FeaturesSettings:
    """Return settings with these files."""
    return FeaturesSettings.model_validate(files)


def test_token_and_certificates_come_from_files(tmp_path: Path) -> None:
    """All four settings together are mutual TLS with a token."""
    ca = TestCa(tmp_path)
    leaf = ca.leaf("features")
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("fs1_secret\n")

    settings = told(
        scoring_ca_file=ca.file,
        scoring_cert_file=leaf.cert,
        scoring_key_file=leaf.key,
        scoring_token_file=token,
    )
    access = settings.scoring_access()

    assert access.metadata("scoring:50052") == (("authorization", "Bearer fs1_secret"),)
    assert access.tls is not None
    assert access.tls.credentials()


def test_laptop_needs_neither() -> None:
    """Without settings nothing is brought."""
    access = told().scoring_access()

    assert access.tls is None
    assert access.metadata("scoring:50052") == ()


@pytest.mark.parametrize("content", ["", "fs1_secret"])
def test_empty_or_readable_token_file_is_refused(tmp_path: Path, content: str) -> None:
    """A token that all may read is not one's own."""
    token = tmp_path / "token"
    token.touch(mode=0o644 if content else 0o600)
    token.write_text(content)

    with pytest.raises(InvalidSettings, match="token"):
        told(scoring_token_file=token).scoring_access()


def test_certificate_without_its_ca_is_refused(tmp_path: Path) -> None:
    """It would be brought to nobody."""
    leaf = TestCa(tmp_path).leaf("features")

    with pytest.raises(InvalidSettings, match="CA"):
        told(scoring_cert_file=leaf.cert, scoring_key_file=leaf.key).scoring_access()


def test_half_a_certificate_is_refused(tmp_path: Path) -> None:
    """A certificate needs its key."""
    ca = TestCa(tmp_path)
    settings = told(scoring_ca_file=ca.file, scoring_cert_file=ca.leaf("f").cert)
    access = settings.scoring_access()

    with pytest.raises(InvalidSettings, match="together"):
        access.check("scoring:50052")
