from fraudstream.v1 import features_pb2 as _features_pb2
from fraudstream.v1 import transaction_pb2 as _transaction_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_APPROVE: _ClassVar[Action]
    ACTION_CHALLENGE: _ClassVar[Action]
    ACTION_REVIEW: _ClassVar[Action]
    ACTION_DECLINE: _ClassVar[Action]

class StandInCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAND_IN_CAUSE_UNSPECIFIED: _ClassVar[StandInCause]
    STAND_IN_CAUSE_MODEL_NOT_LOADED: _ClassVar[StandInCause]
    STAND_IN_CAUSE_MODEL_FAILED: _ClassVar[StandInCause]
    STAND_IN_CAUSE_STORE_UNAVAILABLE: _ClassVar[StandInCause]
    STAND_IN_CAUSE_DEADLINE: _ClassVar[StandInCause]
    STAND_IN_CAUSE_QUEUE_FULL: _ClassVar[StandInCause]
ACTION_UNSPECIFIED: Action
ACTION_APPROVE: Action
ACTION_CHALLENGE: Action
ACTION_REVIEW: Action
ACTION_DECLINE: Action
STAND_IN_CAUSE_UNSPECIFIED: StandInCause
STAND_IN_CAUSE_MODEL_NOT_LOADED: StandInCause
STAND_IN_CAUSE_MODEL_FAILED: StandInCause
STAND_IN_CAUSE_STORE_UNAVAILABLE: StandInCause
STAND_IN_CAUSE_DEADLINE: StandInCause
STAND_IN_CAUSE_QUEUE_FULL: StandInCause

class Reason(_message.Message):
    __slots__ = ("code", "text", "contribution", "from_rule")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    FROM_RULE_FIELD_NUMBER: _ClassVar[int]
    code: str
    text: str
    contribution: float
    from_rule: bool
    def __init__(self, code: _Optional[str] = ..., text: _Optional[str] = ..., contribution: _Optional[float] = ..., from_rule: _Optional[bool] = ...) -> None: ...

class PastContribution(_message.Message):
    __slots__ = ("newest_steps_back", "oldest_steps_back", "contribution")
    NEWEST_STEPS_BACK_FIELD_NUMBER: _ClassVar[int]
    OLDEST_STEPS_BACK_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    newest_steps_back: int
    oldest_steps_back: int
    contribution: float
    def __init__(self, newest_steps_back: _Optional[int] = ..., oldest_steps_back: _Optional[int] = ..., contribution: _Optional[float] = ...) -> None: ...

class LogCoordinates(_message.Message):
    __slots__ = ("topic_id", "partition", "offset")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    topic_id: bytes
    partition: int
    offset: int
    def __init__(self, topic_id: _Optional[bytes] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class SharedRead(_message.Message):
    __slots__ = ("entity_kind", "applied_offset")
    ENTITY_KIND_FIELD_NUMBER: _ClassVar[int]
    APPLIED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    entity_kind: _features_pb2.EntityKind
    applied_offset: int
    def __init__(self, entity_kind: _Optional[_Union[_features_pb2.EntityKind, str]] = ..., applied_offset: _Optional[int] = ...) -> None: ...

class Freshness(_message.Message):
    __slots__ = ("applied_offset", "previous_event_time_ms", "shared_watermark_ms", "shared_stale", "cold_start", "pending_identities", "shared_reads")
    APPLIED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SHARED_WATERMARK_MS_FIELD_NUMBER: _ClassVar[int]
    SHARED_STALE_FIELD_NUMBER: _ClassVar[int]
    COLD_START_FIELD_NUMBER: _ClassVar[int]
    PENDING_IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    SHARED_READS_FIELD_NUMBER: _ClassVar[int]
    applied_offset: int
    previous_event_time_ms: int
    shared_watermark_ms: int
    shared_stale: bool
    cold_start: bool
    pending_identities: _containers.RepeatedScalarFieldContainer[bytes]
    shared_reads: _containers.RepeatedCompositeFieldContainer[SharedRead]
    def __init__(self, applied_offset: _Optional[int] = ..., previous_event_time_ms: _Optional[int] = ..., shared_watermark_ms: _Optional[int] = ..., shared_stale: _Optional[bool] = ..., cold_start: _Optional[bool] = ..., pending_identities: _Optional[_Iterable[bytes]] = ..., shared_reads: _Optional[_Iterable[_Union[SharedRead, _Mapping]]] = ...) -> None: ...

class StageTimings(_message.Message):
    __slots__ = ("raw_appended_us", "ingest_started_us", "ingest_ended_us", "features_started_us", "features_ended_us", "scoring_started_us", "engine_started_us", "engine_ended_us", "scoring_ended_us")
    RAW_APPENDED_US_FIELD_NUMBER: _ClassVar[int]
    INGEST_STARTED_US_FIELD_NUMBER: _ClassVar[int]
    INGEST_ENDED_US_FIELD_NUMBER: _ClassVar[int]
    FEATURES_STARTED_US_FIELD_NUMBER: _ClassVar[int]
    FEATURES_ENDED_US_FIELD_NUMBER: _ClassVar[int]
    SCORING_STARTED_US_FIELD_NUMBER: _ClassVar[int]
    ENGINE_STARTED_US_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ENDED_US_FIELD_NUMBER: _ClassVar[int]
    SCORING_ENDED_US_FIELD_NUMBER: _ClassVar[int]
    raw_appended_us: int
    ingest_started_us: int
    ingest_ended_us: int
    features_started_us: int
    features_ended_us: int
    scoring_started_us: int
    engine_started_us: int
    engine_ended_us: int
    scoring_ended_us: int
    def __init__(self, raw_appended_us: _Optional[int] = ..., ingest_started_us: _Optional[int] = ..., ingest_ended_us: _Optional[int] = ..., features_started_us: _Optional[int] = ..., features_ended_us: _Optional[int] = ..., scoring_started_us: _Optional[int] = ..., engine_started_us: _Optional[int] = ..., engine_ended_us: _Optional[int] = ..., scoring_ended_us: _Optional[int] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("decision_id", "bank_id", "transaction_id", "card_token", "digest", "action", "score", "raw_score", "reasons", "model_hash", "rule_set_hash", "feature_set_hash", "sequence_hash", "coordinates", "freshness", "timings", "degraded", "stand_in", "stand_in_cause", "replayed", "trace_id", "engine_version", "cpu_class", "batch_bucket", "event_time_ms", "vector", "sequence", "transaction", "past", "reasons_estimated", "provisional", "asked_by", "seal")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    BANK_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    CARD_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RAW_SCORE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_HASH_FIELD_NUMBER: _ClassVar[int]
    RULE_SET_HASH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_HASH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_HASH_FIELD_NUMBER: _ClassVar[int]
    COORDINATES_FIELD_NUMBER: _ClassVar[int]
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    STAND_IN_FIELD_NUMBER: _ClassVar[int]
    STAND_IN_CAUSE_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    BATCH_BUCKET_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    PAST_FIELD_NUMBER: _ClassVar[int]
    REASONS_ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    PROVISIONAL_FIELD_NUMBER: _ClassVar[int]
    ASKED_BY_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    bank_id: str
    transaction_id: str
    card_token: str
    digest: bytes
    action: Action
    score: float
    raw_score: float
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    model_hash: str
    rule_set_hash: str
    feature_set_hash: str
    sequence_hash: str
    coordinates: LogCoordinates
    freshness: Freshness
    timings: StageTimings
    degraded: bool
    stand_in: bool
    stand_in_cause: StandInCause
    replayed: bool
    trace_id: str
    engine_version: str
    cpu_class: str
    batch_bucket: int
    event_time_ms: int
    vector: bytes
    sequence: bytes
    transaction: _transaction_pb2.Transaction
    past: _containers.RepeatedCompositeFieldContainer[PastContribution]
    reasons_estimated: bool
    provisional: bool
    asked_by: str
    seal: bytes
    def __init__(self, decision_id: _Optional[str] = ..., bank_id: _Optional[str] = ..., transaction_id: _Optional[str] = ..., card_token: _Optional[str] = ..., digest: _Optional[bytes] = ..., action: _Optional[_Union[Action, str]] = ..., score: _Optional[float] = ..., raw_score: _Optional[float] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., model_hash: _Optional[str] = ..., rule_set_hash: _Optional[str] = ..., feature_set_hash: _Optional[str] = ..., sequence_hash: _Optional[str] = ..., coordinates: _Optional[_Union[LogCoordinates, _Mapping]] = ..., freshness: _Optional[_Union[Freshness, _Mapping]] = ..., timings: _Optional[_Union[StageTimings, _Mapping]] = ..., degraded: _Optional[bool] = ..., stand_in: _Optional[bool] = ..., stand_in_cause: _Optional[_Union[StandInCause, str]] = ..., replayed: _Optional[bool] = ..., trace_id: _Optional[str] = ..., engine_version: _Optional[str] = ..., cpu_class: _Optional[str] = ..., batch_bucket: _Optional[int] = ..., event_time_ms: _Optional[int] = ..., vector: _Optional[bytes] = ..., sequence: _Optional[bytes] = ..., transaction: _Optional[_Union[_transaction_pb2.Transaction, _Mapping]] = ..., past: _Optional[_Iterable[_Union[PastContribution, _Mapping]]] = ..., reasons_estimated: _Optional[bool] = ..., provisional: _Optional[bool] = ..., asked_by: _Optional[str] = ..., seal: _Optional[bytes] = ...) -> None: ...

class AcceptedTransaction(_message.Message):
    __slots__ = ("transaction", "raw_append_time_ms", "ingest_started_us", "ingest_ended_us", "decision", "feed")
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    RAW_APPEND_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    INGEST_STARTED_US_FIELD_NUMBER: _ClassVar[int]
    INGEST_ENDED_US_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    FEED_FIELD_NUMBER: _ClassVar[int]
    transaction: _transaction_pb2.Transaction
    raw_append_time_ms: int
    ingest_started_us: int
    ingest_ended_us: int
    decision: Decision
    feed: str
    def __init__(self, transaction: _Optional[_Union[_transaction_pb2.Transaction, _Mapping]] = ..., raw_append_time_ms: _Optional[int] = ..., ingest_started_us: _Optional[int] = ..., ingest_ended_us: _Optional[int] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., feed: _Optional[str] = ...) -> None: ...

class ShadowScore(_message.Message):
    __slots__ = ("decision_id", "bank_id", "transaction_id", "card_token", "event_time_ms", "model_hash", "score", "raw_score", "action", "engine_version", "cpu_class", "batch_bucket")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    BANK_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    CARD_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MODEL_HASH_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RAW_SCORE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    BATCH_BUCKET_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    bank_id: str
    transaction_id: str
    card_token: str
    event_time_ms: int
    model_hash: str
    score: float
    raw_score: float
    action: Action
    engine_version: str
    cpu_class: str
    batch_bucket: int
    def __init__(self, decision_id: _Optional[str] = ..., bank_id: _Optional[str] = ..., transaction_id: _Optional[str] = ..., card_token: _Optional[str] = ..., event_time_ms: _Optional[int] = ..., model_hash: _Optional[str] = ..., score: _Optional[float] = ..., raw_score: _Optional[float] = ..., action: _Optional[_Union[Action, str]] = ..., engine_version: _Optional[str] = ..., cpu_class: _Optional[str] = ..., batch_bucket: _Optional[int] = ...) -> None: ...
