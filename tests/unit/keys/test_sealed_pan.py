"""Sealed card numbers: opened where they belong, refused with a reason everywhere else."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

import pytest
from nacl.public import PrivateKey, SealedBox

from fraudstream.errors import InvalidTransaction
from fraudstream.keys.box_keys import BoxKeys
from fraudstream.sealed_pan import seal_pan
from fraudstream.transaction.formats import CONTENT_TYPE, PROTOBUF
from fraudstream.transaction.json_form import decode_json, encode_json
from fraudstream.transaction.validate import decode_transaction, validate_transaction
from fraudstream.v1.transaction_pb2 import Transaction
from services.ingest.dead_letters.corrected_pan import CorrectedPans
from services.ingest.pan_opener import PanOpener
from tests.material.bad_samples import good_sample
from training.simulator.messages import pan_of

NOW_MS = 1_780_000_000_000
PAN = pan_of(10_000)
KEY, OLD = PrivateKey(bytes(range(32))), PrivateKey(bytes(range(1, 33)))
OPENER = PanOpener(BoxKeys([OLD, KEY]))
STRICT = PanOpener(BoxKeys([KEY]), requires_sealed=True)
TOKEN = f"bank-north.k1.{'0' * 32}"


def box(key: PrivateKey = KEY, **changed: Any) -> dict[str, Any]:
    """Return the fields of a number that is sealed for the sample, or for something else."""
    told = {"bank_id": "bank-north", "transaction_id": "t-1", "pan": PAN} | changed
    return dict(seal_pan(bytes(key.public_key), **told).json_fields())


def record(**changed: Any) -> dict[str, Any]:
    """Return the good sample without its number, with other fields."""
    fields: dict[str, Any] = json.loads(good_sample(NOW_MS)) | {"transaction_id": "t-1"}
    del fields["pan"]
    return fields | changed


def opened(opener: PanOpener = OPENER, **changed: Any) -> Transaction:
    """Decode, open and validate a record as ingest does."""
    transaction = decode_json(json.dumps(record(**changed)).encode())
    opener.open(transaction)
    validate_transaction(transaction, NOW_MS)
    return transaction


def reason_of(opener: PanOpener = OPENER, **changed: Any) -> tuple[str, str]:
    """Return why a record is refused; the message has no number."""
    with pytest.raises(InvalidTransaction) as refused:
        opened(opener, **changed)
    assert PAN not in refused.value.message
    return refused.value.reason, refused.value.message


@pytest.mark.parametrize("key", [KEY, OLD])
def test_sealed_number_takes_the_place_of_a_clear_one(key: PrivateKey) -> None:
    """Under any key that ingest has; what comes of it is the same record to the byte."""
    clear = opened(pan=PAN)

    assert opened(**box(key)).SerializeToString() == clear.SerializeToString()


def test_protobuf_has_the_box_as_bytes() -> None:
    """And its JSON form, which a preview and a correction use, decodes to the same message."""
    message = decode_json(json.dumps(record(**box())).encode())

    read = decode_transaction(message.SerializeToString(), [(CONTENT_TYPE, PROTOBUF)])
    OPENER.open(read)

    assert (read.pan, read.pan_sealed, read.pan_key_id) == (PAN, b"", "")
    assert decode_json(encode_json(message)) == message


def test_base64_is_read_in_every_spelling() -> None:
    """Both alphabets, with padding and without, as protobuf's JSON has them."""
    fields = box()
    url = base64.urlsafe_b64encode(base64.b64decode(fields["pan_sealed"])).decode()

    for text in (fields["pan_sealed"].rstrip("="), url, url.rstrip("=")):
        assert opened(**fields | {"pan_sealed": text}).pan == PAN


@pytest.mark.parametrize("other", [{"bank_id": "bank-south"}, {"transaction_id": "t-2"}])
def test_box_of_another_record_is_refused(other: dict[str, Any]) -> None:
    """A box that was taken out of a record opens in no other one: not as another bank's either."""
    reason, message = reason_of(**box(**other))

    assert (reason, "sealed for another bank_id or transaction_id" in message) == ("PAN_SEAL", True)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({**box(), "pan_key_id": "0" * 16}, "PAN_SEAL_KEY"),
        ({"pan_sealed": box()["pan_sealed"]}, "PAN_SEAL_KEY"),
        ({"pan_key_id": box()["pan_key_id"]}, "PAN_SEAL"),
        ({**box(), "pan_key_id": box(OLD)["pan_key_id"]}, "PAN_SEAL"),
        ({**box(), "pan_sealed": base64.b64encode(bytes(100)).decode()}, "PAN_SEAL"),
        ({**box(), "pan_sealed": "AAAA"}, "PAN_SEAL"),
        ({**box(), "pan_sealed": base64.b64encode(bytes(40_000)).decode()}, "PAN_SEAL"),
        ({**box(), "pan_sealed": "no base64!"}, "PAN_SEAL"),
        ({**box(), "pan_sealed": 7}, "FIELD_TYPE"),
        ({**box(), "pan_key_id": 7}, "FIELD_TYPE"),
        ({**box(), "pan": PAN}, "CARD_AMBIGUOUS"),
        ({**box(), "card_token": TOKEN}, "CARD_AMBIGUOUS"),
        ({**box(pan=PAN[:-1] + str((int(PAN[-1]) + 1) % 10))}, "PAN_INVALID"),
        ({**box(pan="")}, "CARD_MISSING"),
    ],
)
def test_what_is_no_box_of_this_record_has_its_reason(changed: dict[str, Any], reason: str) -> None:
    """One clear reason for each, and never a crash."""
    assert reason_of(**changed)[0] == reason


def test_rubbish_in_a_true_box_is_refused() -> None:
    """Bytes of any kind that somebody sealed to the right key."""
    for text in (b"", bytes(range(256)), b"fraudstream-pan-1", secrets.token_bytes(200)):
        sealed = SealedBox(KEY.public_key).encrypt(text)
        fields = box() | {"pan_sealed": base64.b64encode(sealed).decode()}
        assert reason_of(**fields)[0] == "PAN_SEAL"


def test_clear_number_is_refused_where_sealed_ones_are_required() -> None:
    """A token and a sealed number still pass."""
    assert reason_of(STRICT, pan=PAN)[0] == "PAN_UNSEALED"
    assert opened(STRICT, **box()).pan == PAN
    assert opened(STRICT, card_token=TOKEN).card_token == TOKEN


def test_ingest_without_keys_says_so() -> None:
    """A sealed number that nobody can open is refused, and names the key as the reason."""
    assert reason_of(PanOpener(None), **box())[0] == "PAN_SEAL_KEY"


def test_grpc_door_takes_no_box() -> None:
    """It has TLS: what validation finds still sealed is refused, and says what to do."""
    transaction = decode_json(json.dumps(record(**box())).encode())

    with pytest.raises(InvalidTransaction, match="send pan over TLS") as refused:
        validate_transaction(transaction, NOW_MS)

    assert refused.value.reason == "PAN_SEAL"


@pytest.mark.parametrize("form", ["base64", "bytes"])
def test_labels_are_opened_too(form: str) -> None:
    """By topic in JSON or Protobuf, by file in any format."""
    fields: dict[str, object] = {"bank_id": "bank-north", "transaction_id": "t-1", **box()}
    if form == "bytes":
        fields["pan_sealed"] = base64.b64decode(str(fields["pan_sealed"]))

    read = OPENER.open_fields(fields)

    assert read == {"bank_id": "bank-north", "transaction_id": "t-1", "pan": PAN}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"pan": PAN}, "PAN_UNSEALED"),
        ({**box(), "card_token": TOKEN}, "CARD_AMBIGUOUS"),
        ({**box(transaction_id="t-2")}, "PAN_SEAL"),
        ({**box(), "pan_sealed": ["x"]}, "FIELD_TYPE"),
        ({**box(OLD)}, "PAN_SEAL_KEY"),
    ],
)
def test_label_with_no_box_of_its_own_is_refused(changed: dict[str, object], reason: str) -> None:
    """By the same reasons as a transaction."""
    with pytest.raises(InvalidTransaction) as refused:
        STRICT.open_fields({"bank_id": "bank-north", "transaction_id": "t-1", **changed})

    assert refused.value.reason == reason


def test_mended_number_is_sealed_before_it_is_sent() -> None:
    """And opens as ingest opens it; what has no clear number stays to the byte."""
    pans = CorrectedPans(KEY.public_key, STRICT, has_keys=True)
    value = json.dumps(record(pan=PAN)).encode()

    sealed = pans.seal(value)

    assert PAN.encode() not in sealed
    transaction = decode_json(sealed)
    pans.open(transaction)
    assert transaction.pan == PAN
    for other in (b"no JSON", b"[]", json.dumps(record(card_token=TOKEN)).encode()):
        assert pans.seal(other) == other


def test_mended_record_is_judged_without_the_private_key() -> None:
    """Whoever corrects need not hold it: all but the box is judged."""
    pans = CorrectedPans(None, PanOpener(None), has_keys=False)
    transaction = decode_json(json.dumps(record(**box())).encode())

    pans.open(transaction)
    validate_transaction(transaction, NOW_MS)

    assert transaction.card_token.startswith("bank-north.")
