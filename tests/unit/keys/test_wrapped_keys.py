"""Wrapped key files: made, opened, moved to another key, and refused where they are not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings
from fraudstream.keys.cli import main
from fraudstream.keys.key_ring import KeyRing
from fraudstream.keys.secret_files import Purpose, read_secret, replace_secret, write_secret
from fraudstream.signing import Signer, make_signer
from fraudstream.transaction.card_token import TokenKeys, rotate_token_keys, write_token_keys
from tests.servers.keks import kek_file


@pytest.fixture
def kek(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key-encrypting key that the settings name."""
    folder = tmp_path / "kek"
    folder.mkdir()
    for name, value in kek_file(folder).items():
        monkeypatch.setenv(name, value)
    return folder / "kek.json"


def refusal(path: Path, purpose: Purpose = Purpose.TOKEN_KEYS) -> str:
    """Return why a file is refused."""
    with pytest.raises(InvalidSettings) as refused:
        read_secret(path, purpose)
    return str(refused.value)


def test_new_key_files_are_wrapped_at_once(kek: Path, tmp_path: Path) -> None:
    """No byte of a key is on disk in clear, and the services read what is there."""
    write_token_keys(tmp_path / "token-keys.json")
    signer = make_signer(tmp_path / "alice.key", "alice")

    text = (tmp_path / "token-keys.json").read_text()
    keys = TokenKeys.load(tmp_path / "token-keys.json")
    assert keys.keys["k1"].hex() not in text
    assert (tmp_path / "token-keys.json").stat().st_mode & 0o777 == 0o400
    assert Signer.load(tmp_path / "alice.key").key == signer.key


def test_plain_files_are_wrapped_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The keys stay the same; wrapping twice is refused."""
    path = tmp_path / "token-keys.json"
    write_token_keys(path)
    before = TokenKeys.load(path)
    monkeypatch.setenv("FRAUD_KEYS_KEK_FILE", kek_file(tmp_path)["FRAUD_KEYS_KEK_FILE"])

    assert main(["wrap", "--purpose", "token-keys", str(path)]) == 0
    assert main(["wrap", "--purpose", "token-keys", str(path)]) == 78

    assert "fraudstream_wrapped" in path.read_text()
    assert TokenKeys.load(path) == before
    assert "rewrap" in capsys.readouterr().err


def test_wrapped_file_opens_for_its_purpose_under_its_name_only(kek: Path, tmp_path: Path) -> None:
    """One that stands in another's place is refused, also where its label is written over."""
    mine, other = tmp_path / "bank-a.key", tmp_path / "bank-b.key"
    write_secret(mine, "secret", Purpose.PAN_KEY)
    text = mine.read_text()
    other.write_text(text)
    other.chmod(0o400)

    assert read_secret(mine, Purpose.PAN_KEY) == "secret"
    assert "for pan-key, expected dead-letter-key" in refusal(mine, Purpose.LETTER_KEY)
    assert "wrapped as bank-a.key, expected bank-b.key" in refusal(other, Purpose.PAN_KEY)
    other.chmod(0o600)
    other.write_text(text.replace("bank-a.key", "bank-b.key"))
    assert "does not open" in refusal(other, Purpose.PAN_KEY)
    other.write_text(text.replace("bank-a.key", "bank-b.key").replace("pan-key", "signing-key"))
    assert "does not open" in refusal(other, Purpose.SIGNING_KEY)


@pytest.mark.parametrize("kept", [30, 90, -30, -3])
def test_cut_file_is_refused(kek: Path, tmp_path: Path, kept: int) -> None:
    """Wherever it is cut; the message says so, and nothing of the file."""
    path = tmp_path / "token-keys.json"
    write_token_keys(path)
    text = path.read_text()
    path.chmod(0o600)
    path.write_text(text[:kept])

    assert "expected a wrapped key file, found one that is cut or changed" in refusal(path)


@pytest.mark.parametrize("field", ["key", "nonce", "content"])
def test_changed_file_is_refused(kek: Path, tmp_path: Path, field: str) -> None:
    """A changed part does not open, be it of the right form or none."""
    path = tmp_path / "token-keys.json"
    write_token_keys(path)
    file = json.loads(path.read_text())
    path.chmod(0o600)
    for changed in ("A" * len(file[field]), "", "?"):
        path.write_text(json.dumps(file | {field: changed}, separators=(",", ":")))
        assert "does not open under key-encrypting key k1" in refusal(path)


def test_wrapped_file_needs_its_key(
    kek: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key, with another of the same id, or of another id it says what is missing."""
    path, another = tmp_path / "token-keys.json", tmp_path / "another.json"
    write_token_keys(path)
    main(["kek", str(another)])

    monkeypatch.setenv("FRAUD_KEYS_KEK_FILE", str(another))
    assert "another one of the same id" in refusal(path)
    main(["kek", str(another), "--rotate"])
    main(["kek", str(another), "--forget", "k1"])
    assert f"{another}: expected key-encrypting key k1, found k2" in refusal(path)
    monkeypatch.delenv("FRAUD_KEYS_KEK_FILE")
    assert "expected FRAUD_KEYS_KEK_FILE or FRAUD_KEYS_PKCS11_MODULE" in refusal(path)
    monkeypatch.setenv("FRAUD_KEYS_KEK_FILE", str(tmp_path / "absent"))
    assert "cannot read" in refusal(path)


def test_plain_key_is_refused_where_wrapped_ones_are_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys only: a password or a TLS key, which others make, may stay plain. None is made plain."""
    path, password = tmp_path / "token-keys.json", tmp_path / "password"
    write_token_keys(path)
    write_secret(password, "x", Purpose.SECRET)
    monkeypatch.setenv("FRAUD_KEYS_REQUIRES_WRAPPED", "true")

    assert "keys wrap --purpose token-keys" in refusal(path)
    assert read_secret(password) == "x"
    with pytest.raises(InvalidSettings, match="FRAUD_KEYS_KEK_FILE"):
        write_token_keys(tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists()


def test_rotated_key_encrypting_key_is_forgotten_once_all_is_rewrapped(
    kek: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Add a key, move the files, take the old one out: the content stays the same."""
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for path in paths:
        write_token_keys(Path(path))
    before = [TokenKeys.load(Path(path)) for path in paths]

    assert main(["kek", str(kek), "--rotate"]) == 0
    assert main(["rewrap", *paths]) == 0
    assert main(["kek", str(kek), "--forget", "k1"]) == 0
    assert main(["kek", str(kek), "--forget", "k2"]) == 78

    assert [TokenKeys.load(Path(path)) for path in paths] == before
    assert main(["show", *paths]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [one["kek"] for one in shown] == ["k2", "k2"]
    assert shown[0] == {
        "file": paths[0],
        "is_wrapped": True,
        "purpose": "token-keys",
        "name": "a.json",
        "kek": "k2",
    }


def test_files_move_to_another_file_of_keys(
    kek: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--former-kek-file` opens what the new one cannot, though both call their key k1."""
    path = tmp_path / "token-keys.json"
    write_token_keys(path)
    before = TokenKeys.load(path)
    main(["kek", str(tmp_path / "new.json")])
    monkeypatch.setenv("FRAUD_KEYS_KEK_FILE", str(tmp_path / "new.json"))

    assert main(["rewrap", str(path)]) == 78
    assert main(["rewrap", "--former-kek-file", str(kek), str(path)]) == 0

    assert TokenKeys.load(path) == before


def test_token_keys_rotate_and_keep_the_old_ones(kek: Path, tmp_path: Path) -> None:
    """The new key is in use, the old one looks up what it made, and the file stays wrapped."""
    path = tmp_path / "token-keys.json"
    write_token_keys(path)
    first = TokenKeys.load(path)

    rotated = rotate_token_keys(path)

    assert TokenKeys.load(path) == rotated
    assert (rotated.active, rotated.keys["k1"]) == ("k2", first.keys["k1"])
    assert "fraudstream_wrapped" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o400


def test_replacing_survives_a_cut_off_command(tmp_path: Path) -> None:
    """What an earlier command left beside the file does not stop the next one."""
    path = tmp_path / "token-keys.json"
    write_token_keys(path)
    (tmp_path / ".token-keys.json.new").write_text("half")

    replace_secret(path, KeyRing.new().text(), Purpose.TOKEN_KEYS)

    assert TokenKeys.load(path).active == "k1"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["token-keys.json"]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"KEK_FILE": "a", "PKCS11_MODULE": "b"}, "found both"),
        ({"PKCS11_MODULE": "b"}, "pkcs11_pin_file beside it"),
        ({"KEKFILE": "a"}, "unknown settings"),
    ],
)
def test_settings_that_contradict_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, str], says: str
) -> None:
    """Before a key is read."""
    path = tmp_path / "token-keys.json"
    write_token_keys(path)
    for name, value in told.items():
        monkeypatch.setenv(f"FRAUD_KEYS_{name}", value)

    assert says in refusal(path)
