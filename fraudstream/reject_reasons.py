"""Why a record is refused: one code per fault, the same on the stream and at the gRPC door."""

from __future__ import annotations

from enum import StrEnum


class RejectReason(StrEnum):
    """Code of one fault of a transaction record; `text` says it in words.

    >>> RejectReason.EMPTY.text
    'the value has no bytes'
    """

    text: str

    def __new__(cls, code: str, text: str) -> RejectReason:
        """Make a code that carries its text."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.text = text
        return member

    # The record as a whole.
    EMPTY = "EMPTY", "the value has no bytes"
    TOMBSTONE = "TOMBSTONE", "the value is null"
    TOO_LARGE = (
        "TOO_LARGE",
        "the value is over 64 KiB, or its batch unpacks to over 32 MiB or holds over 100,000"
        " records; only its size is kept",
    )
    CORRUPT = "CORRUPT", "the record or its batch cannot be read: codec, checksum or structure"
    HEADERS = "HEADERS", "over 32 headers, over 8 KiB of them, or a name that is not UTF-8"
    CONTENT_TYPE = "CONTENT_TYPE", "content-type is neither application/json nor Protobuf's"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH", "header message-type names another message"
    SCHEMA_UNSUPPORTED = "SCHEMA_UNSUPPORTED", "header schema-version has another major than 1"
    DECODE = "DECODE", "not one JSON object, not a protobuf message, or nested too deep"
    ENCODING = "ENCODING", "not UTF-8, a byte order mark, a lone surrogate or a NUL"
    REGISTRY_FRAMED = (
        "REGISTRY_FRAMED",
        "the bytes of a schema registry stand in front of the value",
    )
    CONNECT_ENVELOPE = "CONNECT_ENVELOPE", "the envelope of a Kafka connector is around the value"
    DUP_KEY = "DUP_KEY", "a JSON object names a key twice, or a field by both of its names"
    # Any field.
    FIELD_TYPE = (
        "FIELD_TYPE",
        "a field has another JSON type than the schema says, or is an amount in words",
    )
    FIELD_TOO_LONG = "FIELD_TOO_LONG", "a name or id is longer than 64 characters or 128 bytes"
    FIELD_RESERVED = "FIELD_RESERVED", "a field that only ingest may set is set"
    CONTROL_CHARACTER = "CONTROL_CHARACTER", "a control character in a name or id"
    SAD_PRESENT = "SAD_PRESENT", "a card verification value, track or PIN; nothing of it is kept"
    PAN_PRESENT = "PAN_PRESENT", "a card number in another field than pan"
    # Who and what.
    BANK_INVALID = "BANK_INVALID", "bank_id is not 1 to 32 of A-Z a-z 0-9 _ -"
    BANK_MISMATCH = "BANK_MISMATCH", "bank_id is none of those whose records the feed may carry"
    ID_INVALID = "ID_INVALID", "transaction_id is missing, blank, over 64 or not printable ASCII"
    CARD_MISSING = "CARD_MISSING", "none of pan, pan_sealed and card_token is given"
    CARD_AMBIGUOUS = "CARD_AMBIGUOUS", "more than one of pan, pan_sealed and card_token is given"
    PAN_INVALID = "PAN_INVALID", "pan is not 12 to 19 digits, no 0 first, with a right check digit"
    CARD_TOKEN = (
        "CARD_TOKEN",
        "card_token is not <bank_id>.<key id>.<32 hex digits>, or of a key that is not known",
    )
    PAN_UNSEALED = "PAN_UNSEALED", "a card number in clear where sealed ones are required"
    PAN_SEAL_KEY = "PAN_SEAL_KEY", "pan_key_id is missing or names no key that ingest has"
    PAN_SEAL = "PAN_SEAL", "pan_sealed holds no card number that was sealed for this transaction"
    MERCHANT_MISSING = "MERCHANT_MISSING", "neither merchant_id nor terminal_id is given"
    ENUM_UNSPECIFIED = "ENUM_UNSPECIFIED", "kind, channel or entry mode is missing or unknown"
    # Money.
    AMOUNT_SIGN = "AMOUNT_SIGN", "amount_minor is negative (a refund is positive too)"
    AMOUNT_ZERO = "AMOUNT_ZERO", "amount_minor is missing or 0 and this is no verification"
    AMOUNT_NOT_FINITE = "AMOUNT_NOT_FINITE", "amount_minor is NaN or infinite"
    AMOUNT_FRACTION = "AMOUNT_FRACTION", "amount_minor is not a whole number of minor units"
    AMOUNT_RANGE = "AMOUNT_RANGE", "amount_minor is over 10^15, or 10^13 in reference minor units"
    CURRENCY = "CURRENCY", "currency is not an ISO 4217 alphabetic code"
    CURRENCY_EXPONENT = "CURRENCY_EXPONENT", "currency_exponent is not that of ISO 4217"
    RATE_MISSING = "RATE_MISSING", "the rate table has no rate for this currency"
    # Where and when.
    MCC = "MCC", "mcc is not four digits (ISO 18245)"
    COUNTRY = "COUNTRY", "country is not an ISO 3166-1 alpha-2 code, nor XK"
    IP = "IP", "ip is neither an IPv4 nor an IPv6 address"
    LOCATION = "LOCATION", "latitude or longitude is missing, not finite or out of range"
    UTC_OFFSET = "UTC_OFFSET", "utc_offset_minutes is not a whole number from -720 to 840"
    TIME_INVALID = "TIME_INVALID", "event_time_ms is missing or not epoch milliseconds"
    TIME_FUTURE = "TIME_FUTURE", "event_time_ms is over 5 minutes after the append time"
    RECORD_TIME = "RECORD_TIME", "the record's own timestamp is not epoch milliseconds"
    # Found behind ingest.
    PARTITION_MISMATCH = (
        "PARTITION_MISMATCH",
        "an accepted record lies in another partition than its key belongs into",
    )
    WRITER = "WRITER", "an accepted record of ingest carries a decision, which only scoring makes"
    LABEL_TIME = "LABEL_TIME", "a label was settled before its transaction happened"
    LABEL_ORPHAN = "LABEL_ORPHAN", "no accepted transaction has this bank and transaction id"
    LABEL_AMBIGUOUS = "LABEL_AMBIGUOUS", "several cards have this id: give pan or card_token"
    DISPOSITION = "DISPOSITION", "disposition is not confirmed_fraud, genuine or undetermined"
    ID_CONFLICT = "ID_CONFLICT", "a known transaction id came with another body"
    INTERNAL = "INTERNAL", "a fault of this software; the log has its trace"


class QuarantineReason(StrEnum):
    """Why a reader passed a record behind ingest over.

    >>> QuarantineReason("BOUNDS").value
    'BOUNDS'
    """

    # No message of the topic's kind.
    DECODE = "DECODE"
    # Its authentication code is missing, wrong, or of a writer that may not write there.
    UNTRUSTED = "UNTRUSTED"
    # Its key is not that of its message, or belongs to another partition.
    KEY = "KEY"
    # A field is none that our services write: an unknown enum, a wrong form, length or range.
    BOUNDS = "BOUNDS"
    # It claims an offset or a time of its source that the source has not reached.
    SOURCE = "SOURCE"
    # A published rule set that is not fit to serve.
    RULES = "RULES"
