from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class PublishedRuleSet(_message.Message):
    __slots__ = ("rule_set_id", "version", "content", "rule_set_hash", "signer", "why", "published_at_ms", "signature")
    RULE_SET_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    RULE_SET_HASH_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    rule_set_id: str
    version: int
    content: str
    rule_set_hash: str
    signer: str
    why: str
    published_at_ms: int
    signature: bytes
    def __init__(self, rule_set_id: _Optional[str] = ..., version: _Optional[int] = ..., content: _Optional[str] = ..., rule_set_hash: _Optional[str] = ..., signer: _Optional[str] = ..., why: _Optional[str] = ..., published_at_ms: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...
