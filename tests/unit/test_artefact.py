"""The artefact's loader: what was written comes back, and every fault has its own refusal."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nacl.signing import SigningKey
from onnx import TensorProto, helper

from fraudstream.artefact import (
    MANIFEST_FILE,
    MAX_MODEL_BYTES,
    SIGNATURE_FILE,
    Artefact,
    load_artefact,
    sign_artefact,
    write_artefact,
)
from fraudstream.calibration import Calibration, Thresholds
from fraudstream.engines.golden import GoldenRows
from fraudstream.errors import ModelRefused
from fraudstream.features.catalogue import (
    CATALOGUE,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.manifest import Manifest, ReasonGroup, golden_text
from fraudstream.onnx_declared import read_declared
from fraudstream.signing import People, Signer, SignerRole
from tests.tiny_model import (
    FEATURES,
    lstm_member,
    onnx_bytes,
    some_sequences,
    some_vectors,
    tiny_weights,
)
from tests.trust import NOW_MS, PEOPLE, TRAINER, UNTIL

HASHES = {feature.name: f"{feature.hash:016x}" for feature in CATALOGUE}
MODEL_FILE = "lstm.onnx"
ONNX = onnx_bytes(tiny_weights())
GOLDEN = GoldenRows(some_vectors(8), some_sequences(8), np.linspace(0, 1, 8, dtype=np.float32))


def tiny_manifest(model: bytes = ONNX) -> Manifest:
    """Return a good manifest for a model file."""
    return Manifest(
        name="tiny",
        version=1,
        created_from="0" * 64,
        members=(lstm_member(model),),
        bias=0.0,
        feature_hashes=tuple(HASHES[name] for name in FEATURES),
        feature_names=FEATURES,
        sequence_hash=SEQUENCE_HASH,
        sequence_length=SEQUENCE_LENGTH,
        sequence_channels=SEQUENCE_CHANNELS,
        opset=17,
        calibration=Calibration(kind="platt", a=1.0, b=1.0, c=0.0),
        thresholds=Thresholds(challenge=0.2, review=0.5, decline=0.9),
        reason_baseline={"amount": 2_000.0, "sequence.amount_minor": 2_000.0},
        reason_groups=(
            ReasonGroup(
                code="R01", text="Unusual amount", features=("amount",), channels=("amount_minor",)
            ),
        ),
        golden=golden_text(GOLDEN),
        metrics={"ap": 0.5},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good artefact."""
    write_artefact(tmp_path / "tiny", tiny_manifest(), {MODEL_FILE: ONNX})
    sign_artefact(tmp_path / "tiny", TRAINER)
    return tmp_path / "tiny"


def load(folder: Path, at_ms: int = NOW_MS) -> Artefact:
    """Load an artefact as scoring does."""
    return load_artefact(folder, PEOPLE, at_ms)


def refusal(folder: Path) -> str:
    """Return the reason for which an artefact is refused."""
    with pytest.raises(ModelRefused) as refused:
        load(folder)
    return refused.value.reason


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit a manifest in place, and sign what comes out whatever it is."""
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    change(manifest)
    put_manifest(folder, json.dumps(manifest))


def put_manifest(folder: Path, text: str) -> None:
    """Replace the manifest by a text that the trainer signs."""
    (folder / MANIFEST_FILE).write_text(text)
    signature = TRAINER.sign("artefact", hashlib.sha256(text.encode()).hexdigest().encode())
    (folder / SIGNATURE_FILE).write_text(signature.model_dump_json())


def put_model(folder: Path, model: bytes) -> None:
    """Replace the model by another that the manifest vouches for."""
    (folder / MODEL_FILE).write_bytes(model)
    sha256 = hashlib.sha256(model).hexdigest()
    change_manifest(folder, lambda it: it["members"][0].update(sha256=sha256))


def edited(change: Callable[[onnx.ModelProto], object]) -> bytes:
    """Return the tiny model with a change."""
    model = onnx.load_from_string(ONNX)
    change(model)
    return bytes(model.SerializeToString())


def test_what_was_written_comes_back(folder: Path) -> None:
    """Manifest, model and golden rows survive the round trip to the bit."""
    artefact = load(folder)

    assert artefact.manifest == tiny_manifest()
    assert artefact.files == (ONNX,)
    assert artefact.golden.vectors.tobytes() == GOLDEN.vectors.tobytes()
    assert artefact.golden.sequences.tobytes() == GOLDEN.sequences.tobytes()
    assert artefact.golden.raw_scores.tobytes() == GOLDEN.raw_scores.tobytes()
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


@pytest.mark.parametrize("place", ["../../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_weights_in_another_file_are_refused(folder: Path, place: str) -> None:
    """M3: external tensors could name any path, or a link or a hard link to it."""

    def outside(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    put_model(folder, edited(outside))

    assert refusal(folder) == "MODEL_EXTERNAL"


def test_weights_larger_than_any_file_are_refused(folder: Path) -> None:
    """M9: 4 GiB that are declared and not there would still be made room for."""

    def swell(model: onnx.ModelProto) -> None:
        model.graph.initializer.add(name="swollen", data_type=TensorProto.FLOAT, dims=[1 << 30])

    put_model(folder, edited(swell))

    assert refusal(folder) == "MODEL_SIZE"


def as_member(folder: Path, **change: str) -> None:
    """Change what the manifest says of the one member."""
    change_manifest(folder, lambda it: it["members"][0].update(change))


@pytest.mark.parametrize(
    ("name", "domain", "version", "change"),
    [
        ("TreeEnsembleRegressor", "ai.onnx.ml", 3, {"kind": "boosting"}),
        ("DynamicQuantizeLSTM", "com.microsoft", 1, {"precision": "int8"}),
    ],
)
def test_operators_of_other_domains_need_their_kind_of_member(
    folder: Path, name: str, domain: str, version: int, change: dict[str, str]
) -> None:
    """M6: trees only in boosting, quantised operators only in int8, no newer domain than known."""
    put_model(folder, with_domain(name, domain, version))
    before = refusal(folder)
    as_member(folder, **change)
    load(folder)
    put_model(folder, with_domain(name, domain, 99))

    assert (before, refusal(folder)) == ("MODEL_OPS", "MODEL_OPS")


def with_domain(name: str, domain: str, version: int) -> bytes:
    """Return the tiny model with one more node and the domain that it is from."""
    model = onnx.load_from_string(with_operator(name, domain))
    model.opset_import.append(helper.make_opsetid(domain, version))
    return bytes(model.SerializeToString())


def test_two_members_with_one_file_are_refused(folder: Path) -> None:
    """An ensemble names each member once."""
    change_manifest(folder, lambda it: it["members"].append(it["members"][0]))

    assert refusal(folder) == "MODEL_CONTRACT"


def with_operator(name: str, domain: str) -> bytes:
    """Return the tiny model with one more node."""
    return edited(
        lambda model: model.graph.node.append(
            helper.make_node(name, ["vector"], ["more"], domain=domain)
        )
    )


@pytest.mark.parametrize(("name", "domain"), [("NonZero", ""), ("Relu", "com.example")])
def test_operator_that_is_not_listed_is_refused(folder: Path, name: str, domain: str) -> None:
    """Custom operators and domains run code of somebody's choice."""
    put_model(folder, with_operator(name, domain))

    assert refusal(folder) == "MODEL_OPS"


def test_graph_inside_a_node_is_refused(folder: Path) -> None:
    """A walk over one level must not miss what hides on the next."""
    inner = helper.make_graph([], "inner", [], [])
    node = helper.make_node("Identity", ["vector"], ["more"], body=inner)
    put_model(folder, edited(lambda model: model.graph.node.append(node)))

    assert refusal(folder) == "MODEL_OPS"


def test_newer_opset_than_declared_is_refused(folder: Path) -> None:
    """Manifest and file must agree on the operator set."""
    put_model(folder, edited(lambda model: setattr(model.opset_import[0], "version", 23)))

    assert refusal(folder) == "MODEL_OPS"


def rename_input(model: onnx.ModelProto) -> None:
    """Give the vector another name."""
    model.graph.input[0].name = "features"


def widen_input(model: onnx.ModelProto) -> None:
    """Give the vector one more column."""
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1


def fix_batch(model: onnx.ModelProto) -> None:
    """Fix the batch to one row."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def double_input(model: onnx.ModelProto) -> None:
    """Ask for float64."""
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


@pytest.mark.parametrize("change", [rename_input, widen_input, fix_batch, double_input])
def test_other_inputs_than_agreed_are_refused(
    folder: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    """Names, types and shapes of inputs and outputs are the contract with scoring."""
    put_model(folder, edited(change))

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
    "constant": lambda golden: golden.update(raw_scores=[0.5] * 8),
}


@pytest.mark.parametrize("name", GOLDEN_FAULTS)
def test_golden_rows_that_prove_nothing_are_refused(folder: Path, name: str) -> None:
    """Golden rows are whole, finite, in [0, 1] and not all the same."""
    change_manifest(folder, lambda it: GOLDEN_FAULTS[name](it["golden"]))

    assert refusal(folder) == "MODEL_GOLDEN"


def test_no_truncation_escapes_the_walk_untyped() -> None:
    """Any prefix of a model is read or refused, and never crashes the reader."""
    reasons = {_reason_of_prefix(size) for size in range(0, len(ONNX), 211)}

    assert reasons == {"MODEL_CORRUPT"}


def _reason_of_prefix(size: int) -> str:
    try:
        read_declared(ONNX[:size])
    except ModelRefused as refused:
        return refused.reason
    return ""
