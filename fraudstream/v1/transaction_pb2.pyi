from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TransactionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRANSACTION_KIND_UNSPECIFIED: _ClassVar[TransactionKind]
    TRANSACTION_KIND_PURCHASE: _ClassVar[TransactionKind]
    TRANSACTION_KIND_REFUND: _ClassVar[TransactionKind]
    TRANSACTION_KIND_REVERSAL: _ClassVar[TransactionKind]
    TRANSACTION_KIND_VERIFICATION: _ClassVar[TransactionKind]

class Channel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_UNSPECIFIED: _ClassVar[Channel]
    CHANNEL_POS: _ClassVar[Channel]
    CHANNEL_ECOMMERCE: _ClassVar[Channel]
    CHANNEL_ATM: _ClassVar[Channel]
    CHANNEL_MOTO: _ClassVar[Channel]
    CHANNEL_RECURRING: _ClassVar[Channel]

class EntryMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_MODE_UNSPECIFIED: _ClassVar[EntryMode]
    ENTRY_MODE_CHIP: _ClassVar[EntryMode]
    ENTRY_MODE_CONTACTLESS: _ClassVar[EntryMode]
    ENTRY_MODE_MAGSTRIPE: _ClassVar[EntryMode]
    ENTRY_MODE_MANUAL: _ClassVar[EntryMode]
    ENTRY_MODE_STORED: _ClassVar[EntryMode]
TRANSACTION_KIND_UNSPECIFIED: TransactionKind
TRANSACTION_KIND_PURCHASE: TransactionKind
TRANSACTION_KIND_REFUND: TransactionKind
TRANSACTION_KIND_REVERSAL: TransactionKind
TRANSACTION_KIND_VERIFICATION: TransactionKind
CHANNEL_UNSPECIFIED: Channel
CHANNEL_POS: Channel
CHANNEL_ECOMMERCE: Channel
CHANNEL_ATM: Channel
CHANNEL_MOTO: Channel
CHANNEL_RECURRING: Channel
ENTRY_MODE_UNSPECIFIED: EntryMode
ENTRY_MODE_CHIP: EntryMode
ENTRY_MODE_CONTACTLESS: EntryMode
ENTRY_MODE_MAGSTRIPE: EntryMode
ENTRY_MODE_MANUAL: EntryMode
ENTRY_MODE_STORED: EntryMode

class Location(_message.Message):
    __slots__ = ("latitude", "longitude")
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    latitude: float
    longitude: float
    def __init__(self, latitude: _Optional[float] = ..., longitude: _Optional[float] = ...) -> None: ...

class Transaction(_message.Message):
    __slots__ = ("bank_id", "transaction_id", "pan", "card_token", "kind", "customer_id", "merchant_id", "terminal_id", "mcc", "amount_minor", "currency", "amount_reference_minor", "event_time_ms", "utc_offset_minutes", "channel", "entry_mode", "country", "device_id", "ip", "location", "currency_exponent", "rate_table_version", "pan_sealed", "pan_key_id")
    BANK_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    PAN_FIELD_NUMBER: _ClassVar[int]
    CARD_TOKEN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CUSTOMER_ID_FIELD_NUMBER: _ClassVar[int]
    MERCHANT_ID_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_ID_FIELD_NUMBER: _ClassVar[int]
    MCC_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MINOR_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_REFERENCE_MINOR_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    UTC_OFFSET_MINUTES_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    ENTRY_MODE_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    IP_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_EXPONENT_FIELD_NUMBER: _ClassVar[int]
    RATE_TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PAN_SEALED_FIELD_NUMBER: _ClassVar[int]
    PAN_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    bank_id: str
    transaction_id: str
    pan: str
    card_token: str
    kind: TransactionKind
    customer_id: str
    merchant_id: str
    terminal_id: str
    mcc: str
    amount_minor: int
    currency: str
    amount_reference_minor: int
    event_time_ms: int
    utc_offset_minutes: int
    channel: Channel
    entry_mode: EntryMode
    country: str
    device_id: str
    ip: str
    location: Location
    currency_exponent: int
    rate_table_version: str
    pan_sealed: bytes
    pan_key_id: str
    def __init__(self, bank_id: _Optional[str] = ..., transaction_id: _Optional[str] = ..., pan: _Optional[str] = ..., card_token: _Optional[str] = ..., kind: _Optional[_Union[TransactionKind, str]] = ..., customer_id: _Optional[str] = ..., merchant_id: _Optional[str] = ..., terminal_id: _Optional[str] = ..., mcc: _Optional[str] = ..., amount_minor: _Optional[int] = ..., currency: _Optional[str] = ..., amount_reference_minor: _Optional[int] = ..., event_time_ms: _Optional[int] = ..., utc_offset_minutes: _Optional[int] = ..., channel: _Optional[_Union[Channel, str]] = ..., entry_mode: _Optional[_Union[EntryMode, str]] = ..., country: _Optional[str] = ..., device_id: _Optional[str] = ..., ip: _Optional[str] = ..., location: _Optional[_Union[Location, _Mapping]] = ..., currency_exponent: _Optional[int] = ..., rate_table_version: _Optional[str] = ..., pan_sealed: _Optional[bytes] = ..., pan_key_id: _Optional[str] = ...) -> None: ...
