"""How a client of the gRPC doors shows who it is: TLS files and a bearer token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import read_secret

AUTHORIZATION: Final = "authorization"
BEARER: Final = "bearer"

_IPV4: Final = re.compile(r"\d{1,3}(\.\d{1,3}){3}")


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files of a client. They are read when it connects first; new ones need a new client.

    Attributes:
        ca_file: Whose certificates are trusted.
        cert_file: Of this client, for mutual TLS; None for TLS of the server alone.
        key_file: Of that certificate, mode 0400.
    """

    ca_file: Path
    cert_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what gRPC connects with.

        Raises:
            InvalidSettings: A file is missing or too open, or certificate and key come alone.
        """
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidSettings("TLS: expected certificate and key together, found one of them")
        key = read_secret(self.key_file).encode() if self.key_file else None
        chain = _read(self.cert_file) if self.cert_file else None
        return grpc.ssl_channel_credentials(_read(self.ca_file), key, chain)


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """How a client is let in.

    Attributes:
        tls: None for loopback, or a line that something else makes private.
        token: Bearer token; empty for none. Its repr is left out, so no log can hold it.
    """

    tls: ClientTls | None = None
    token: str = ""

    def __repr__(self) -> str:
        """Return the repr without the token."""
        return f"Access(tls={self.tls!r}, token={'***' if self.token else ''!r})"

    def check(self, address: str) -> None:
        """Find out before the first call whether there can be one.

        Raises:
            InvalidSettings: A file is missing or too open, or a token would travel in the clear.
        """
        self.metadata(address)
        if self.tls is not None:
            self.tls.credentials()

    def metadata(self, address: str) -> tuple[tuple[str, str], ...]:
        """Return the metadata of each call.

        Raises:
            InvalidSettings: A token would travel over a line that others can read.

        >>> Access(token="t").metadata("127.0.0.1:50051")
        (('authorization', 'Bearer t'),)
        >>> Access().metadata("scoring:50051")
        ()
        """
        if not self.token:
            return ()
        if self.tls is None and not is_loopback_address(address):
            msg = f"a token to {address} needs TLS: expected the file of its CA"
            raise InvalidSettings(msg)
        return ((AUTHORIZATION, f"Bearer {self.token}"),)

    def aio_channel(self, address: str, options: Sequence[tuple[str, object]]) -> grpc.aio.Channel:
        """Return a channel for an event loop; it connects at the first call.

        Raises:
            InvalidSettings: A file is missing or too open.
        """
        if self.tls is None:
            return grpc.aio.insecure_channel(address, options)
        return grpc.aio.secure_channel(address, self.tls.credentials(), options)


OPEN: Final = Access()


def is_loopback_address(address: str) -> bool:
    """Return whether a host or host:port is on this machine.

    >>> [is_loopback_address(a) for a in ("127.0.0.1:50051", "localhost", "10.0.0.7:1", "0.0.0.0")]
    [True, True, False, False]
    >>> is_loopback_address("localhost.example.com:1"), is_loopback_address("127.example.com:1")
    (False, False)
    """
    host = address.rpartition(":")[0] if address.count(":") == 1 else address
    host = host.removeprefix("[").partition("]")[0]
    if host in ("localhost", "::1") or address.startswith("unix:"):
        return True
    return bool(_IPV4.fullmatch(host)) and host.startswith("127.")


def read_token(path: Path) -> str:
    """Read a file that holds one token.

    Raises:
        InvalidSettings: It is missing, too open or empty.
    """
    token = read_secret(path).strip()
    if not token:
        raise InvalidSettings(f"{path}: expected a token, found nothing")
    return token


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise InvalidSettings(f"cannot read {path}: {exc.strerror}") from exc
