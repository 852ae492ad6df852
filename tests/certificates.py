"""Certificates and keys for tests, made on the spot: an authority, and leaves for 127.0.0.1 that it signs."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Leaf:
    """A certificate and its private key, as PEM."""

    cert: bytes
    key: bytes

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `server.crt` and `server.key`; return both paths."""
        folder.mkdir(exist_ok=True)
        paths = folder / "server.crt", folder / "server.key"
        paths[0].write_bytes(self.cert)
        paths[1].write_bytes(self.key)
        return paths


class Authority:
    """A certificate authority that nobody else knows."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key())
        basic = x509.BasicConstraints(ca=True, path_length=None)
        certificate = builder.add_extension(basic, critical=True).sign(self._key, hashes.SHA256())
        self.pem = certificate.public_bytes(Encoding.PEM)

    def leaf(self, name: str, begins_days: float = -1, ends_days: float = 7) -> Leaf:
        """Return a certificate for 127.0.0.1 and localhost that holds between these days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = self._builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), begins_days, ends_days
        )
        certificate = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(
            self._key, hashes.SHA256()
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Leaf(certificate.public_bytes(Encoding.PEM), private)

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, begins_days: float = -1, ends_days: float = 7
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now + dt.timedelta(days=begins_days),
            not_valid_after=now + dt.timedelta(days=ends_days),
        )
