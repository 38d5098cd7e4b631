from fraudstream.v1 import decision_pb2 as _decision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StandIn(_message.Message):
    __slots__ = ("decision", "feature_hashes")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    FEATURE_HASHES_FIELD_NUMBER: _ClassVar[int]
    decision: _decision_pb2.Decision
    feature_hashes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, decision: _Optional[_Union[_decision_pb2.Decision, _Mapping]] = ..., feature_hashes: _Optional[_Iterable[int]] = ...) -> None: ...

class Rescore(_message.Message):
    __slots__ = ("decision_id", "bank_id", "transaction_id", "card_token", "decided_action", "stand_in_cause", "action", "score", "raw_score", "reasons", "model_hash", "rule_set_hash", "engine_version", "event_time_ms", "rescored_at_ms", "trace_id")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    BANK_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    CARD_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DECIDED_ACTION_FIELD_NUMBER: _ClassVar[int]
    STAND_IN_CAUSE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RAW_SCORE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_HASH_FIELD_NUMBER: _ClassVar[int]
    RULE_SET_HASH_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    RESCORED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    bank_id: str
    transaction_id: str
    card_token: str
    decided_action: _decision_pb2.Action
    stand_in_cause: _decision_pb2.StandInCause
    action: _decision_pb2.Action
    score: float
    raw_score: float
    reasons: _containers.RepeatedCompositeFieldContainer[_decision_pb2.Reason]
    model_hash: str
    rule_set_hash: str
    engine_version: str
    event_time_ms: int
    rescored_at_ms: int
    trace_id: str
    def __init__(self, decision_id: _Optional[str] = ..., bank_id: _Optional[str] = ..., transaction_id: _Optional[str] = ..., card_token: _Optional[str] = ..., decided_action: _Optional[_Union[_decision_pb2.Action, str]] = ..., stand_in_cause: _Optional[_Union[_decision_pb2.StandInCause, str]] = ..., action: _Optional[_Union[_decision_pb2.Action, str]] = ..., score: _Optional[float] = ..., raw_score: _Optional[float] = ..., reasons: _Optional[_Iterable[_Union[_decision_pb2.Reason, _Mapping]]] = ..., model_hash: _Optional[str] = ..., rule_set_hash: _Optional[str] = ..., engine_version: _Optional[str] = ..., event_time_ms: _Optional[int] = ..., rescored_at_ms: _Optional[int] = ..., trace_id: _Optional[str] = ...) -> None: ...
