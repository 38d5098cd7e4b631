from fraudstream.v1 import decision_pb2 as _decision_pb2
from fraudstream.v1 import transaction_pb2 as _transaction_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreRequest(_message.Message):
    __slots__ = ("transaction",)
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    transaction: _transaction_pb2.Transaction
    def __init__(self, transaction: _Optional[_Union[_transaction_pb2.Transaction, _Mapping]] = ...) -> None: ...

class ScoreBatchRequest(_message.Message):
    __slots__ = ("transactions",)
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    transactions: _containers.RepeatedCompositeFieldContainer[_transaction_pb2.Transaction]
    def __init__(self, transactions: _Optional[_Iterable[_Union[_transaction_pb2.Transaction, _Mapping]]] = ...) -> None: ...

class RowError(_message.Message):
    __slots__ = ("code", "reason", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class RowResult(_message.Message):
    __slots__ = ("decision", "error")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    decision: _decision_pb2.Decision
    error: RowError
    def __init__(self, decision: _Optional[_Union[_decision_pb2.Decision, _Mapping]] = ..., error: _Optional[_Union[RowError, _Mapping]] = ...) -> None: ...

class ScoreBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RowResult]
    def __init__(self, results: _Optional[_Iterable[_Union[RowResult, _Mapping]]] = ...) -> None: ...

class FeatureRow(_message.Message):
    __slots__ = ("transaction", "digest", "vector", "sequence", "offset", "traceparent", "freshness", "timings", "carried_decision", "feed")
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    CARRIED_DECISION_FIELD_NUMBER: _ClassVar[int]
    FEED_FIELD_NUMBER: _ClassVar[int]
    transaction: _transaction_pb2.Transaction
    digest: bytes
    vector: bytes
    sequence: bytes
    offset: int
    traceparent: str
    freshness: _decision_pb2.Freshness
    timings: _decision_pb2.StageTimings
    carried_decision: _decision_pb2.Decision
    feed: str
    def __init__(self, transaction: _Optional[_Union[_transaction_pb2.Transaction, _Mapping]] = ..., digest: _Optional[bytes] = ..., vector: _Optional[bytes] = ..., sequence: _Optional[bytes] = ..., offset: _Optional[int] = ..., traceparent: _Optional[str] = ..., freshness: _Optional[_Union[_decision_pb2.Freshness, _Mapping]] = ..., timings: _Optional[_Union[_decision_pb2.StageTimings, _Mapping]] = ..., carried_decision: _Optional[_Union[_decision_pb2.Decision, _Mapping]] = ..., feed: _Optional[str] = ...) -> None: ...

class FeatureBatchRequest(_message.Message):
    __slots__ = ("topic_id", "partition", "from_offset", "generation", "rows", "feature_hashes", "sequence_hash")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    FROM_OFFSET_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_HASHES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_HASH_FIELD_NUMBER: _ClassVar[int]
    topic_id: bytes
    partition: int
    from_offset: int
    generation: str
    rows: _containers.RepeatedCompositeFieldContainer[FeatureRow]
    feature_hashes: _containers.RepeatedScalarFieldContainer[int]
    sequence_hash: str
    def __init__(self, topic_id: _Optional[bytes] = ..., partition: _Optional[int] = ..., from_offset: _Optional[int] = ..., generation: _Optional[str] = ..., rows: _Optional[_Iterable[_Union[FeatureRow, _Mapping]]] = ..., feature_hashes: _Optional[_Iterable[int]] = ..., sequence_hash: _Optional[str] = ...) -> None: ...

class CheckRecordsRequest(_message.Message):
    __slots__ = ("partition", "identities")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    partition: int
    identities: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, partition: _Optional[int] = ..., identities: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CheckRecordsResponse(_message.Message):
    __slots__ = ("taken_out",)
    TAKEN_OUT_FIELD_NUMBER: _ClassVar[int]
    taken_out: int
    def __init__(self, taken_out: _Optional[int] = ...) -> None: ...
