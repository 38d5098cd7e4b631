"""The artefact's loader: what was written comes back, and every fault has its own refusal."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from fraudstream.errors import ModelRefused
from fraudstream.features.catalogue import CATALOGUE
from fraudstream.models.artefact import (
    MANIFEST_FILE,
    MAX_MODEL_BYTES,
    SIGNATURE_FILE,
    load_artefact,
    sign_artefact,
)
from fraudstream.signing import People, Signer, SignerRole
from tests.fakes.tiny_model import (
    onnx_bytes,
    some_sequences,
    some_vectors,
    tiny_artefact,
    tiny_manifest,
    tiny_weights,
)
from tests.worlds.artefact_world import (
    MODEL_FILE,
    ONNX,
    change_manifest,
    load,
    put_manifest,
    put_model,
    refusal,
)
from tests.worlds.trust import NOW_MS, TRAINER, UNTIL

HASHES = {feature.name: f"{feature.hash:016x}" for feature in CATALOGUE}
GOLDEN_ROWS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good artefact."""
    tiny_artefact(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_what_was_written_comes_back(folder: Path) -> None:
    """Manifest, model and golden rows survive the round trip to the bit."""
    artefact = load(folder)

    assert artefact.manifest == tiny_manifest(ONNX)
    assert artefact.files == (ONNX,)
    assert artefact.golden.vectors.tobytes() == some_vectors(GOLDEN_ROWS).tobytes()
    assert artefact.golden.sequences.tobytes() == some_sequences(GOLDEN_ROWS).tobytes()
    assert artefact.golden.raw_scores.tolist() == list(artefact.manifest.golden.raw_scores)
    assert artefact.feature_hashes[0] == int(HASHES["card_count_1h"], 16)


def test_hash_of_a_model_covers_its_manifest(folder: Path) -> None:
    """Other thresholds are another model, though the weights are the same."""
    before = load(folder).model_hash
    change_manifest(folder, lambda it: it["thresholds"].update(decline=0.95))

    assert load(folder).model_hash != before


@pytest.mark.parametrize("size", [0, 1, len(ONNX) // 2, len(ONNX) - 1])
def test_model_that_was_cut_short_is_corrupt(folder: Path, size: int) -> None:
    """M5: a file that ends early never reaches the runtime."""
    (folder / MODEL_FILE).write_bytes(ONNX[:size])

    assert refusal(folder) == "MODEL_CORRUPT"


@pytest.mark.parametrize("at", range(0, len(ONNX), 4_001))
def test_bit_that_flipped_is_corrupt_or_untrusted(folder: Path, at: int) -> None:
    """M5: no changed bit serves; where the file still reads well it could be anybody's."""
    (folder / MODEL_FILE).write_bytes(ONNX[:at] + bytes([ONNX[at] ^ 1]) + ONNX[at + 1 :])

    assert refusal(folder) in ("MODEL_CORRUPT", "MODEL_UNTRUSTED", "MODEL_FORMAT")


def test_another_model_under_the_signed_name_is_untrusted(folder: Path) -> None:
    """M4: a good model that nobody signed is not the one that was signed."""
    (folder / MODEL_FILE).write_bytes(onnx_bytes(tiny_weights(bias=2.0)))

    assert refusal(folder) == "MODEL_UNTRUSTED"


def test_missing_signature_is_untrusted(folder: Path) -> None:
    """M4: an artefact that nobody signed does not serve."""
    (folder / SIGNATURE_FILE).unlink()

    assert refusal(folder) == "MODEL_UNTRUSTED"


@pytest.mark.parametrize("text", ["", "{}", '{"signer": "trainer"}', "[" * 1_000])
def test_malformed_signature_is_untrusted(folder: Path, text: str) -> None:
    """M4: what is no signature counts as none."""
    (folder / SIGNATURE_FILE).write_text(text)

    assert refusal(folder) == "MODEL_UNTRUSTED"


def test_manifest_changed_after_signing_is_untrusted(folder: Path) -> None:
    """M4: the signature covers every byte of the manifest."""
    path = folder / MANIFEST_FILE
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))

    assert refusal(folder) == "MODEL_UNTRUSTED"


def test_key_that_expired_is_untrusted(folder: Path) -> None:
    """M4: a signature counts until the last day of its person."""
    expired = People.of([TRAINER.person([SignerRole.TRAINER], "2026-01-04")])

    with pytest.raises(ModelRefused, match="MODEL_UNTRUSTED"):
        load_artefact(folder, expired, NOW_MS)


def test_stranger_and_approver_do_not_sign_models(folder: Path) -> None:
    """M4: only a trainer's signature counts under an artefact."""
    approver = People.of([TRAINER.person([SignerRole.APPROVER], UNTIL)])
    stranger = Signer("stranger", SigningKey(bytes(32)))
    others = People.of([stranger.person([SignerRole.TRAINER], UNTIL)])
    for people in (approver, others):
        with pytest.raises(ModelRefused, match="MODEL_UNTRUSTED"):
            load_artefact(folder, people, NOW_MS)


def test_exit_codes_tell_trust_from_content() -> None:
    """Whoever restarts a service sees by its exit code whether to fetch or to investigate."""
    reasons = ("MODEL_UNTRUSTED", "MODEL_CONFIG", "MODEL_CORRUPT", "MODEL_BUDGET")

    assert [ModelRefused(reason, "").exit_code for reason in reasons] == [77, 78, 65, 65]


@pytest.mark.parametrize("model", [b"\x08\x07", b"\xff" * 40, b"hello, this is no model"])
def test_bytes_that_are_no_onnx_are_corrupt(folder: Path, model: bytes) -> None:
    """A manifest that vouches for nonsense does not make it a model."""
    put_model(folder, model)

    assert refusal(folder) == "MODEL_CORRUPT"


@pytest.mark.parametrize("head", [pickle.dumps({"weights": [1.0]}), b"PK\x03\x04zip"])
def test_pickle_or_archive_is_never_opened(folder: Path, head: bytes) -> None:
    """Only ONNX is read; a pickle could run code."""
    put_model(folder, head)

    assert refusal(folder) == "MODEL_FORMAT"


def test_link_is_refused(folder: Path, tmp_path: Path) -> None:
    """M3: a link could lead out of the folder."""
    elsewhere = tmp_path / "elsewhere.onnx"
    (folder / MODEL_FILE).rename(elsewhere)
    (folder / MODEL_FILE).symlink_to(elsewhere)

    assert refusal(folder) == "MODEL_EXTERNAL"


@pytest.mark.parametrize("name", ["../lstm.onnx", "/etc/passwd", "lstm.pt", "sub/lstm.onnx"])
def test_member_file_outside_the_folder_is_refused(folder: Path, name: str) -> None:
    """M1, M3: the manifest names plain ONNX files of its own folder."""
    change_manifest(folder, lambda it: it["members"][0].update(file=name))

    assert refusal(folder) == "MODEL_CONTRACT"


@pytest.mark.parametrize("name", ["config.pbtxt", "metadata.yaml", "MODEL.YML"])
def test_settings_of_another_server_are_never_read(folder: Path, name: str) -> None:
    """M13: a YAML tag can build any object, so no such file may lie in the folder."""
    (folder / name).write_text("!!python/object/apply:os.system ['true']")

    assert refusal(folder) == "MODEL_CONFIG"


def test_folder_with_a_checkpoint_alone_is_no_artefact(tmp_path: Path) -> None:
    """M1: a pickle is never opened, whatever its name."""
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"weights": [1.0]}))

    assert refusal(tmp_path) == "MODEL_FORMAT"


@pytest.mark.parametrize("name", [MODEL_FILE, MANIFEST_FILE])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    """The message says which file is expected."""
    (folder / name).unlink()

    with pytest.raises(ModelRefused, match=name):
        load(folder)


def test_size_is_bounded_before_anything_is_parsed(folder: Path) -> None:
    """A file of 64 MiB and a byte is not read further than that."""
    with (folder / MODEL_FILE).open("r+b") as file:
        file.truncate(MAX_MODEL_BYTES + 1)

    assert refusal(folder) == "MODEL_SIZE"


def test_two_members_with_one_file_are_refused(folder: Path) -> None:
    """An ensemble names each member once."""
    change_manifest(folder, lambda it: it["members"].append(it["members"][0]))

    assert refusal(folder) == "MODEL_CONTRACT"


CONTRACT_BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown feature": lambda it: it["feature_hashes"].__setitem__(0, "0" * 16),
    "fewer names": lambda it: it["feature_names"].pop(),
    "repeated hash": lambda it: it["feature_hashes"].__setitem__(0, it["feature_hashes"][1]),
    "other sequence": lambda it: it.update(sequence_hash="0" * 16),
    "other length": lambda it: it.update(sequence_length=16),
    "unknown key": lambda it: it.update(pickle="model.pt"),
    "missing key": lambda it: it.pop("thresholds"),
    "wrong type": lambda it: it.update(version="1"),
    "threshold order": lambda it: it["thresholds"].update(challenge=0.95),
    "falling calibration": lambda it: it["calibration"].update(a=-1.0, b=-1.0),
    "reason about nothing": lambda it: it["reason_groups"][0].update(features=["shoe_size"]),
    "reason without baseline": lambda it: it["reason_baseline"].pop("amount"),
}


@pytest.mark.parametrize("name", CONTRACT_BREAKS)
def test_manifest_that_breaks_the_contract_is_refused(folder: Path, name: str) -> None:
    """What the manifest promises must be complete, known and possible."""
    change_manifest(folder, CONTRACT_BREAKS[name])

    assert refusal(folder) == "MODEL_CONTRACT"


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 100_000])
def test_manifest_that_is_no_json_is_corrupt(folder: Path, text: str) -> None:
    """A manifest is JSON, whoever signed it."""
    put_manifest(folder, text)

    assert refusal(folder) == "MODEL_CORRUPT"


def test_manifest_with_a_key_twice_is_never_signed(folder: Path) -> None:
    """Readers differ in which of the two they take, so nobody can know what they sign."""
    path = folder / MANIFEST_FILE
    path.write_text(path.read_text().replace('"bias": 0.0', '"bias": 1.0, "bias": 0.0'))

    with pytest.raises(ModelRefused, match="MODEL_CORRUPT"):
        sign_artefact(folder, TRAINER)


GOLDEN_FAULTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "not base64": lambda golden: golden.update(vectors_b64="!!!"),
    "half a row": lambda golden: golden.update(vectors_b64=golden["vectors_b64"][:-8]),
    "out of range": lambda golden: golden["raw_scores"].__setitem__(0, 1.5),
    "constant": lambda golden: golden.update(raw_scores=[0.5] * GOLDEN_ROWS),
}


@pytest.mark.parametrize("name", GOLDEN_FAULTS)
def test_golden_rows_that_prove_nothing_are_refused(folder: Path, name: str) -> None:
    """Golden rows are whole, finite, in [0, 1] and not all the same."""
    change_manifest(folder, lambda it: GOLDEN_FAULTS[name](it["golden"]))

    assert refusal(folder) == "MODEL_GOLDEN"
