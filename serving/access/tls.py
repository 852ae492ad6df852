"""TLS for the server: certificates from files, taken up again when the files change.

gRPC and the HTTP port ask before every handshake; a look at the files' times costs some ten microseconds. A
certificate that does not go with its key, as when only one of the two has been copied yet, is left
alone, and so is one that has expired or does not hold yet: new connections go on with the last good pair.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from turnout.serving.access.validity import Validity, validities
from turnout.serving.errors import failed_look
from turnout.serving.files import Looks
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.settings import ServerSettings, SettingsRefused

_log = logging.getLogger("turnout.tls")

KINDS = ("server", "client_ca")
LOOK_S = 0.6
"""A handshake waits for so long for the files, once; our clients give it a second."""
LOOKS_AGAIN_S = 60.0
"""A certificate that was refused may begin to hold without its file changing."""

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
            SettingsRefused: a file is unreadable or anybody may write to it, certificate and key do not belong
                together, a certificate of the chain does not hold now, or none of the clients' authorities does.
        """
        self.check_validity()
        self._check_writers()
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

    def check_validity(self) -> None:
        """Refuse a chain or authorities that do not hold now; raises `SettingsRefused`."""
        now_s = time.time()
        for found in self.validity("server"):
            if trouble := found.trouble(now_s):
                raise SettingsRefused(f"tls: {self.cert}: {trouble}; clients would refuse it")
        troubles = [found.trouble(now_s) for found in self.validity("client_ca")]
        if troubles and all(troubles):
            raise SettingsRefused(f"tls: {self.client_ca}: {troubles[0]}; no client could come in")
        if any(troubles):
            _log.warning(
                "tls: %s: %d of %d authorities do not hold now",
                self.client_ca,
                len(list(filter(None, troubles))),
                len(troubles),
            )

    def _check_writers(self) -> None:
        """Refuse files that anybody may write to: who does so says who the server is, or who comes in."""
        for path in filter(None, (self.cert, self.key, self.client_ca)):
            try:
                is_open = path.stat().st_mode & 0o002
            except OSError as error:
                raise SettingsRefused(f"tls: {path}: can't be used: {error.strerror}") from None
            if is_open:
                raise SettingsRefused(f"tls: {path}: anybody can write to it; chmod o-w")

    def validity(self, kind: str) -> list[Validity]:
        """Return the validity of each certificate of `server` or `client_ca`; raises `SettingsRefused`."""
        path = self.cert if kind == "server" else self.client_ca
        if path is None:
            return []
        try:
            return validities(path.read_text(encoding="latin-1"))
        except OSError as error:
            raise SettingsRefused(f"tls: {path}: can't be used: {error.strerror}") from None
        except ValueError as error:
            raise SettingsRefused(f"tls: {path}: can't be used: {error}") from None

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

    def __init__(self, files: TlsFiles, make: Callable[[], T], metrics: ServerMetrics | None = None) -> None:
        """Make it for the first time; `metrics` are told of expiry and of each change, taken or refused.

        Raises:
            SettingsRefused: a file is unreadable, or certificate and key do not belong together.
        """
        self._files = files
        self._make = make
        self._metrics = metrics
        self._looks = Looks(LOOK_S)
        self._looks_again_s = math.inf
        self._say_again_s = -math.inf
        self._says_again_at_s = math.inf
        self._ends: dict[str, list[Validity]] = {}
        try:
            self._seen = files.state()
            self.latest = make()
        except OSError as error:
            raise SettingsRefused(f"tls: {error.filename}: cannot be read: {error.strerror}") from None
        self._tell()

    def changed(self) -> T | None:
        """Return what was made of files that changed since the last look; None where `latest` still holds.

        What expires soon, or has expired, while nobody replaces it is said again.
        """
        if time.time() >= self._says_again_at_s:
            self._say_ends()
        try:
            state = self._looks(self._files.state)
        except OSError as error:
            if failed_look(error) is not None:
                self._unread(error)
                return None
            state = ()
            if self._seen:
                _log.warning("the last good certificate stays: %s: %s", error.filename, error.strerror)
        is_new = state != self._seen
        if not state or not (is_new or time.monotonic() >= self._looks_again_s):
            self._seen = state
            return None
        self._seen = state
        try:
            self.latest = self._looks(self._make)
        except (OSError, SettingsRefused) as error:
            if failed_look(error) is not None:
                self._unread(error)
                return None
            self._looks_again_s = time.monotonic() + LOOKS_AGAIN_S
            if is_new:
                _log.warning("the last good certificate stays: %s", error)
                self._reloaded(ok=False)
            return None
        self._looks_again_s = math.inf
        _log.info("new certificate from %s", self._files.cert)
        self._reloaded(ok=True)
        self._tell()
        return self.latest

    def _unread(self, error: Exception) -> None:
        """Count a look that failed; the next handshake looks again, and the log hears of it once a minute."""
        self._seen = ()
        now_s = time.monotonic()
        if now_s >= self._say_again_s:
            self._say_again_s = now_s + LOOKS_AGAIN_S
            _log.warning("the last good certificate stays, the files can't be looked at: %s", failed_look(error))
        if self._metrics is not None:
            self._metrics.looked("tls", "unread")

    def _reloaded(self, *, ok: bool) -> None:
        if self._metrics is not None:
            self._metrics.reloaded("tls", ok=ok)

    def _tell(self) -> None:
        """Take note of what is served from now on, and say what of it expires soon."""
        self._ends = {kind: found for kind in KINDS if (found := self._files.validity(kind))}
        self._say_ends()

    def _say_ends(self) -> None:
        """Say what expires soon or has expired, and state it in the metrics."""
        now_s = time.time()
        self._says_again_at_s = math.inf
        for kind, found in self._ends.items():
            first = min(found, key=lambda one: one.ends_s)
            self._says_again_at_s = min(self._says_again_at_s, first.says_again_at_s(now_s))
            if trouble := first.trouble(now_s):
                _log.error("tls: a certificate of %s %s, and nobody has replaced it", kind, trouble)
            elif first.ends_soon(now_s):
                _log.warning("tls: a certificate of %s expires in %.1f days", kind, (first.ends_s - now_s) / 86_400)
            if self._metrics is not None:
                self._metrics.certificate(kind, first.begins_s, first.ends_s)


def tls_files(settings: ServerSettings) -> TlsFiles | None:
    """Return the files of a server with these settings; None without TLS."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def server_credentials(settings: ServerSettings, metrics: ServerMetrics | None = None) -> Any:
    """Return gRPC's credentials for a server with these settings; None without TLS.

    Raises:
        SettingsRefused: a file is unreadable, or certificate and key do not belong together.
    """
    files = tls_files(settings)
    if files is None:
        return None
    certificates = Certificates(files, files.configuration, metrics)
    return grpc.dynamic_ssl_server_credentials(
        certificates.latest, certificates.changed, require_client_authentication=files.client_ca is not None
    )
