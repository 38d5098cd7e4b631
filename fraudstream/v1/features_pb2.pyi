from fraudstream.v1 import transaction_pb2 as _transaction_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntityRowKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTITY_ROW_KIND_UNSPECIFIED: _ClassVar[EntityRowKind]
    ENTITY_ROW_KIND_TRANSACTION: _ClassVar[EntityRowKind]
    ENTITY_ROW_KIND_LABEL: _ClassVar[EntityRowKind]
    ENTITY_ROW_KIND_HEARTBEAT: _ClassVar[EntityRowKind]

class EntityKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTITY_KIND_UNSPECIFIED: _ClassVar[EntityKind]
    ENTITY_KIND_TERMINAL: _ClassVar[EntityKind]
    ENTITY_KIND_MERCHANT: _ClassVar[EntityKind]
    ENTITY_KIND_CUSTOMER: _ClassVar[EntityKind]
    ENTITY_KIND_DEVICE: _ClassVar[EntityKind]
    ENTITY_KIND_IP: _ClassVar[EntityKind]
    ENTITY_KIND_CARD: _ClassVar[EntityKind]
ENTITY_ROW_KIND_UNSPECIFIED: EntityRowKind
ENTITY_ROW_KIND_TRANSACTION: EntityRowKind
ENTITY_ROW_KIND_LABEL: EntityRowKind
ENTITY_ROW_KIND_HEARTBEAT: EntityRowKind
ENTITY_KIND_UNSPECIFIED: EntityKind
ENTITY_KIND_TERMINAL: EntityKind
ENTITY_KIND_MERCHANT: EntityKind
ENTITY_KIND_CUSTOMER: EntityKind
ENTITY_KIND_DEVICE: EntityKind
ENTITY_KIND_IP: EntityKind
ENTITY_KIND_CARD: EntityKind

class FeatureValue(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class SequenceStep(_message.Message):
    __slots__ = ("event_time_ms", "amount_reference_minor", "kind", "channel", "mcc")
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_REFERENCE_MINOR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MCC_FIELD_NUMBER: _ClassVar[int]
    event_time_ms: int
    amount_reference_minor: int
    kind: int
    channel: int
    mcc: str
    def __init__(self, event_time_ms: _Optional[int] = ..., amount_reference_minor: _Optional[int] = ..., kind: _Optional[int] = ..., channel: _Optional[int] = ..., mcc: _Optional[str] = ...) -> None: ...

class EntityRow(_message.Message):
    __slots__ = ("kind", "entity_kind", "entity_key", "source_topic_id", "source_partition", "source_offset", "source_time_ms", "event_time_ms", "amount_reference_minor", "transaction_kind", "identity", "is_fraud", "is_unusual")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENTITY_KIND_FIELD_NUMBER: _ClassVar[int]
    ENTITY_KEY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_PARTITION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SOURCE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_REFERENCE_MINOR_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    IS_FRAUD_FIELD_NUMBER: _ClassVar[int]
    IS_UNUSUAL_FIELD_NUMBER: _ClassVar[int]
    kind: EntityRowKind
    entity_kind: EntityKind
    entity_key: str
    source_topic_id: bytes
    source_partition: int
    source_offset: int
    source_time_ms: int
    event_time_ms: int
    amount_reference_minor: int
    transaction_kind: _transaction_pb2.TransactionKind
    identity: bytes
    is_fraud: bool
    is_unusual: bool
    def __init__(self, kind: _Optional[_Union[EntityRowKind, str]] = ..., entity_kind: _Optional[_Union[EntityKind, str]] = ..., entity_key: _Optional[str] = ..., source_topic_id: _Optional[bytes] = ..., source_partition: _Optional[int] = ..., source_offset: _Optional[int] = ..., source_time_ms: _Optional[int] = ..., event_time_ms: _Optional[int] = ..., amount_reference_minor: _Optional[int] = ..., transaction_kind: _Optional[_Union[_transaction_pb2.TransactionKind, str]] = ..., identity: _Optional[bytes] = ..., is_fraud: _Optional[bool] = ..., is_unusual: _Optional[bool] = ...) -> None: ...
