"""A CA and its certificates for tests of TLS, made at run time."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Leaf:
    """PEM files of one certificate."""

    cert: Path
    key: Path

    def replace_by(self, other: Leaf) -> None:
        """Put another certificate and key in these files' places, as a rotation does."""
        for mine, new in ((self.cert, other.cert), (self.key, other.key)):
            new.replace(mine)


class TestCa:
    """A certificate authority with its PEM file."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test CA")
        self.file = folder / "ca.pem"
        cert = self._signed(self._name, self._key, timedelta(days=1), (), is_ca=True)
        self.file.write_bytes(cert.public_bytes(Encoding.PEM))

    def leaf(self, name: str, *alternative: str, lasts: timedelta = timedelta(hours=1)) -> Leaf:
        """Make a certificate for 127.0.0.1 with a common name and alternative names."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._signed(_name(name), key, lasts, alternative, is_ca=False)
        found = Leaf(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        found.cert.write_bytes(cert.public_bytes(Encoding.PEM))
        found.key.touch(mode=0o600)
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        found.key.write_bytes(key.private_bytes(*form))
        return found

    def _signed(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        lasts: timedelta,
        alternative: tuple[str, ...],
        *,
        is_ca: bool,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = [*map(x509.DNSName, alternative), loopback]
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + lasts)
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        return builder.sign(self._key, SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
