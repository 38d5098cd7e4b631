"""TLS of the listeners, from files that may be replaced while the service runs.

gRPC asks before each handshake; files that changed are read again, so a certificate is rotated
without a restart. New files that do not fit together leave the old ones in use and are named in
the log. Connections that are open keep the certificate that they began with, at most 330 seconds.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import read_secret
from fraudstream.runtime.file_change import state_of

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of the listeners.

    Attributes:
        cert_file: Certificate and its chain.
        key_file: Its key, mode 0400 or 0440.
        client_ca_file: Whose certificates callers must bring; None asks for none.
    """

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the files that there are."""
        ca = (self.client_ca_file,) if self.client_ca_file else ()
        return (self.cert_file, self.key_file, *ca)


class DoorCertificate:
    """The certificate of one listener, as its files are now."""

    def __init__(self, files: ServerTls) -> None:
        """Read the files.

        Raises:
            InvalidSettings: One is missing or no PEM, they do not belong together, or the
                certificate is over.
        """
        self._files = files
        self._states = [state_of(path) for path in files.paths]
        self._first = read_certificate(files)

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a server's port is opened with."""
        is_mutual = self._files.client_ca_file is not None
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._fetch,  # type: ignore[arg-type]  # None says that nothing changed
            is_mutual,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a new configuration where the files changed. Called in a thread of gRPC's."""
        states = [state_of(path) for path in self._files.paths]
        if states == self._states:
            return None
        self._states = states
        try:
            found = read_certificate(self._files)
        except InvalidSettings as exc:
            _LOG.error("the certificate in use stays: %s", exc)  # the message says it all
            return None
        _LOG.info("%s was read again", self._files.cert_file)
        return found


def read_certificate(files: ServerTls) -> grpc.ServerCertificateConfiguration:
    """Read, check and return what a handshake needs.

    Raises:
        InvalidSettings: As for `DoorCertificate`.
    """
    chain, key = _read(files.cert_file), read_secret(files.key_file).encode()
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        ours = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError) as exc:
        msg = f"{files.cert_file}, {files.key_file}: expected PEM, the key without a password"
        raise InvalidSettings(msg) from exc
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != ours.public_bytes(*form):
        msg = f"{files.key_file} is not the key of {files.cert_file}"
        raise InvalidSettings(msg)
    if leaf.not_valid_after_utc < datetime.now(UTC):
        msg = f"{files.cert_file} was valid until {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise InvalidSettings(msg)
    return grpc.ssl_server_certificate_configuration([(key, chain)], _client_ca(files))


def _client_ca(files: ServerTls) -> bytes | None:
    if files.client_ca_file is None:
        return None
    ca = _read(files.client_ca_file)
    try:
        x509.load_pem_x509_certificates(ca)
    except ValueError as exc:
        raise InvalidSettings(f"{files.client_ca_file}: expected PEM certificates") from exc
    return ca


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise InvalidSettings(f"cannot read {path}: {exc.strerror}") from exc
