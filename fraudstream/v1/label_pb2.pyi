from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Disposition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISPOSITION_UNSPECIFIED: _ClassVar[Disposition]
    DISPOSITION_CONFIRMED_FRAUD: _ClassVar[Disposition]
    DISPOSITION_GENUINE: _ClassVar[Disposition]
    DISPOSITION_UNDETERMINED: _ClassVar[Disposition]

class LabelSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABEL_SOURCE_UNSPECIFIED: _ClassVar[LabelSource]
    LABEL_SOURCE_ANALYST: _ClassVar[LabelSource]
    LABEL_SOURCE_CHARGEBACK: _ClassVar[LabelSource]
DISPOSITION_UNSPECIFIED: Disposition
DISPOSITION_CONFIRMED_FRAUD: Disposition
DISPOSITION_GENUINE: Disposition
DISPOSITION_UNDETERMINED: Disposition
LABEL_SOURCE_UNSPECIFIED: LabelSource
LABEL_SOURCE_ANALYST: LabelSource
LABEL_SOURCE_CHARGEBACK: LabelSource

class Label(_message.Message):
    __slots__ = ("label_id", "bank_id", "transaction_id", "card_token", "event_time_ms", "disposition", "source", "customer_id", "merchant_id", "terminal_id", "analyst", "settled_at_ms", "device_id", "ip")
    LABEL_ID_FIELD_NUMBER: _ClassVar[int]
    BANK_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    CARD_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CUSTOMER_ID_FIELD_NUMBER: _ClassVar[int]
    MERCHANT_ID_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_ID_FIELD_NUMBER: _ClassVar[int]
    ANALYST_FIELD_NUMBER: _ClassVar[int]
    SETTLED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    IP_FIELD_NUMBER: _ClassVar[int]
    label_id: str
    bank_id: str
    transaction_id: str
    card_token: str
    event_time_ms: int
    disposition: Disposition
    source: LabelSource
    customer_id: str
    merchant_id: str
    terminal_id: str
    analyst: str
    settled_at_ms: int
    device_id: str
    ip: str
    def __init__(self, label_id: _Optional[str] = ..., bank_id: _Optional[str] = ..., transaction_id: _Optional[str] = ..., card_token: _Optional[str] = ..., event_time_ms: _Optional[int] = ..., disposition: _Optional[_Union[Disposition, str]] = ..., source: _Optional[_Union[LabelSource, str]] = ..., customer_id: _Optional[str] = ..., merchant_id: _Optional[str] = ..., terminal_id: _Optional[str] = ..., analyst: _Optional[str] = ..., settled_at_ms: _Optional[int] = ..., device_id: _Optional[str] = ..., ip: _Optional[str] = ...) -> None: ...

class BankLabel(_message.Message):
    __slots__ = ("bank_id", "transaction_id", "pan", "card_token", "event_time_ms", "disposition", "settled_at_ms", "label_id", "pan_sealed", "pan_key_id")
    BANK_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    PAN_FIELD_NUMBER: _ClassVar[int]
    CARD_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    SETTLED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LABEL_ID_FIELD_NUMBER: _ClassVar[int]
    PAN_SEALED_FIELD_NUMBER: _ClassVar[int]
    PAN_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    bank_id: str
    transaction_id: str
    pan: str
    card_token: str
    event_time_ms: int
    disposition: Disposition
    settled_at_ms: int
    label_id: str
    pan_sealed: bytes
    pan_key_id: str
    def __init__(self, bank_id: _Optional[str] = ..., transaction_id: _Optional[str] = ..., pan: _Optional[str] = ..., card_token: _Optional[str] = ..., event_time_ms: _Optional[int] = ..., disposition: _Optional[_Union[Disposition, str]] = ..., settled_at_ms: _Optional[int] = ..., label_id: _Optional[str] = ..., pan_sealed: _Optional[bytes] = ..., pan_key_id: _Optional[str] = ...) -> None: ...
