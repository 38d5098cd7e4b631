from fraudstream.v1 import decision_pb2 as _decision_pb2
from fraudstream.v1 import features_pb2 as _features_pb2
from fraudstream.v1 import rescore_pb2 as _rescore_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Alert(_message.Message):
    __slots__ = ("alert_id", "decision", "sequence", "features", "raised_at_ms", "expected_loss_minor", "rescore")
    ALERT_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    RAISED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_LOSS_MINOR_FIELD_NUMBER: _ClassVar[int]
    RESCORE_FIELD_NUMBER: _ClassVar[int]
    alert_id: str
    decision: _decision_pb2.Decision
    sequence: _containers.RepeatedCompositeFieldContainer[_features_pb2.SequenceStep]
    features: _containers.RepeatedCompositeFieldContainer[_features_pb2.FeatureValue]
    raised_at_ms: int
    expected_loss_minor: int
    rescore: _rescore_pb2.Rescore
    def __init__(self, alert_id: _Optional[str] = ..., decision: _Optional[_Union[_decision_pb2.Decision, _Mapping]] = ..., sequence: _Optional[_Iterable[_Union[_features_pb2.SequenceStep, _Mapping]]] = ..., features: _Optional[_Iterable[_Union[_features_pb2.FeatureValue, _Mapping]]] = ..., raised_at_ms: _Optional[int] = ..., expected_loss_minor: _Optional[int] = ..., rescore: _Optional[_Union[_rescore_pb2.Rescore, _Mapping]] = ...) -> None: ...
