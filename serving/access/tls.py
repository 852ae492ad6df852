"""TLS for the server: certificates from files, taken up again when the files change.

gRPC and the HTTP port ask before every handshake; a look at the files' times costs some ten microseconds. A
certificate that does not go with its key, as when only one of the two has been copied yet, is left
alone, and new connections go on with the last good pair.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from turnout.serving.settings import ServerSettings, SettingsRefused

_log = logging.getLogger("turnout.tls")

T = TypeVar("T")
FileState = tuple[tuple[int, int, int], ...]
"""Inode, size and modification time (ns) of each file."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of one server; `client_ca` is None where clients need no certificate."""

    cert: Path
    key: Path
    client_ca: Path | None

    def state(self) -> FileState:
        """Return what tells one content of the files from another; raises `OSError`."""
        stats = [path.stat() for path in (self.cert, self.key, self.client_ca) if path is not None]
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)

    def context(self) -> ssl.SSLContext:
        """Return the context of a server with the files as they are now.

        Raises:
            SettingsRefused: a file is unreadable, or certificate and key do not belong together.
        """
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.cert, self.key, password="")  # never asks for one
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:  # ssl.SSLError is an OSError; kept apart for the reader
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            files = ", ".join(str(path) for path in (self.cert, self.key, self.client_ca) if path is not None)
            raise SettingsRefused(f"tls: {files}: can't be used: {reason}") from None
        return context

    def configuration(self) -> Any:
        """Return gRPC's configuration of the files as they are now; raises what `context` does, and `OSError`."""
        self.context()  # which checks what gRPC would find out at the first handshake
        authorities = None if self.client_ca is None else self.client_ca.read_bytes()
        return grpc.ssl_server_certificate_configuration([(self.key.read_bytes(), self.cert.read_bytes())], authorities)


class Certificates(Generic[T]):
    """What a library makes of the files, made again when they change.

    Attributes:
        latest: made of the last good files.
    """

    def __init__(self, files: TlsFiles, make: Callable[[], T]) -> None:
        """Make it for the first time.

        Raises:
            SettingsRefused: a file is unreadable, or certificate and key do not belong together.
        """
        self._files = files
        self._make = make
        try:
            self._seen = files.state()
            self.latest = make()
        except OSError as error:
            raise SettingsRefused(f"tls: {error.filename}: cannot be read: {error.strerror}") from None

    def changed(self) -> T | None:
        """Return what was made of files that changed since the last look; None where `latest` still holds."""
        try:
            state = self._files.state()
            if state == self._seen:
                return None
            self._seen = state
            self.latest = self._make()
        except (OSError, SettingsRefused) as error:
            _log.warning("the last good certificate stays: %s", error)
            return None
        _log.info("new certificate from %s", self._files.cert)
        return self.latest


def tls_files(settings: ServerSettings) -> TlsFiles | None:
    """Return the files of a server with these settings; None without TLS."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def server_credentials(settings: ServerSettings) -> Any:
    """Return gRPC's credentials for a server with these settings; None without TLS.

    Raises:
        SettingsRefused: a file is unreadable, or certificate and key do not belong together.
    """
    files = tls_files(settings)
    if files is None:
        return None
    certificates = Certificates(files, files.configuration)
    return grpc.dynamic_ssl_server_credentials(
        certificates.latest, certificates.changed, require_client_authentication=files.client_ca is not None
    )
