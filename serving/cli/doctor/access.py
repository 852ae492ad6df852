"""How the doctor comes to a server, by TLS and token, and why it does not: files and an address in, findings out."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from turnout.serving.access.tokens import read_tokens
from turnout.serving.access.validity import Validity, validities
from turnout.serving.cli.doctor.finding import Finding, fail, ok, warn
from turnout.serving.settings import SettingsRefused, split_address, unix_path

TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Way:
    """The way to a server: its `host:port`, and the files of `turnout.serving.cli.doctor.checkup.Patient`."""

    address: str
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """Open a channel; raises `OSError` when a file can't be read."""
        if self.tls_ca is None:
            with grpc.insecure_channel(self.address) as channel:
                yield channel
            return
        shows = self.tls_cert is not None and self.tls_key is not None
        key = self.tls_key.read_bytes() if shows and self.tls_key else None
        chain = self.tls_cert.read_bytes() if shows and self.tls_cert else None
        credentials = grpc.ssl_channel_credentials(self.tls_ca.read_bytes(), key, chain)
        with grpc.secure_channel(self.address, credentials) as channel:
            yield channel

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what shows the token; raises `OSError`."""
        if self.token_file is None:
            return ()
        return (("authorization", f"Bearer {self.token_file.read_text(encoding='utf-8').strip()}"),)


def check_certificate(path: Path) -> Finding:
    """Look whether the certificates of a PEM file hold now, and for how long."""
    try:
        found = validities(path.read_text(encoding="latin-1"))
    except OSError as error:
        return fail("certificate", f"{path}: {error.strerror}", "name a PEM file that this user can read")
    except ValueError as error:
        return fail("certificate", f"{path}: {error}", "write the file again")
    if not found:
        return fail("certificate", f"{path}: no certificate in it", "name a PEM file with -----BEGIN CERTIFICATE-----")
    return _held(str(path), min(found, key=lambda one: one.ends_s))


def _held(name: str, validity: Validity) -> Finding:
    now_s = time.time()
    if trouble := validity.trouble(now_s):
        return fail("certificate", f"{name}: {trouble}", "renew it; servers read the file again without a restart")
    days = f"{name}: {(validity.ends_s - now_s) / 86_400:.1f} days left"
    if validity.ends_soon(now_s):
        return warn("certificate", days, "renew it soon; after that every client uses the strong model")
    return ok("certificate", days)


def check_tokens(path: Path) -> Finding:
    """Look whether a server could use the tokens file."""
    try:
        return ok("tokens", f"{path}: {len(read_tokens(path))} tokens")
    except SettingsRefused as error:
        return fail("tokens", str(error), "write it as turnout token new prints it")


def why_unreachable(way: Way) -> Finding:
    """Find out why a server gives no answer: a bad address, nobody there, or TLS on one side only."""
    if (path := unix_path(way.address)) is not None:
        why = "nobody answers there" if path.is_socket() else "there is no such socket"
        return fail("server", f"{way.address}: {why}", "start it with this --listen, or correct the path")
    try:
        host, port = split_address(way.address, "server")
        with socket.create_connection((host, port), TIMEOUT_S) as plain:
            return _why_no_answer(way, plain, host)
    except SettingsRefused as error:
        return fail("server", str(error), "give --server as HOST:PORT, such as 127.0.0.1:50151")
    except socket.gaierror as error:
        return fail("server", f"{way.address}: no such host: {error.strerror}", "correct the name, or ask your DNS")
    except TimeoutError:
        return fail(
            "server", f"{way.address}: no answer in {TIMEOUT_S:g} s", "look at firewall and network, or its log"
        )
    except OSError as error:
        advice = "start it, or correct the address; callers use the strong model meanwhile"
        return fail("server", f"{way.address}: nobody listens there: {error.strerror}", advice)


def _why_no_answer(way: Way, plain: socket.socket, host: str) -> Finding:  # noqa: PLR0911  # one for each cause
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    if way.tls_ca is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        try:
            context = ssl.create_default_context(cafile=way.tls_ca)
            if way.tls_cert is not None and way.tls_key is not None:
                context.load_cert_chain(way.tls_cert, way.tls_key, password="")
        except OSError as error:
            return fail("TLS", f"{way.tls_ca}: can't be used: {error.strerror or error}", "name PEM files of a pair")
        context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(plain, server_hostname=host) as encrypted:
            shown = encrypted.getpeercert(binary_form=True)
            if way.tls_ca is not None:
                encrypted.settimeout(0.5)
                with contextlib.suppress(TimeoutError):  # a server that wants a certificate says so after the handshake
                    encrypted.recv(1)
    except ssl.SSLCertVerificationError as error:
        advice = "renew the certificate, or name the authority that signed it with --tls-ca"
        return fail("TLS", f"{way.address}: its certificate is refused: {error.verify_message}", advice)
    except ssl.SSLError as error:
        if "CERTIFICATE" in (error.reason or ""):
            advice = "give --tls-cert and --tls-key of its authority for clients"
            return fail("TLS", f"{way.address}: it wants a certificate from its clients ({error.reason})", advice)
        return _plain(way)
    except (ConnectionError, TimeoutError):
        return _plain(way)
    if way.tls_ca is None and shown:
        held = _held(way.address, validities(ssl.DER_cert_to_PEM_cert(shown))[0])
        return fail("TLS", f"the server speaks TLS ({held.found})", "give --tls-ca with its authority")
    return fail("server", f"{way.address}: TLS is fine, and gRPC gets no answer", "look at its log")


def _plain(way: Way) -> Finding:
    if way.tls_ca is not None:
        return fail("TLS", f"{way.address} does not speak TLS", "leave out --tls-ca, or start it with --tls-cert")
    if _speaks_http(way.address):
        advice = "give the address of the server's --listen; this may be that of its --http or --metrics"
        return fail("server", f"{way.address}: HTTP is spoken there, and no gRPC", advice)
    return fail("server", f"{way.address}: something listens there that is no Turnout, or hangs", "look at its log")


def _speaks_http(address: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(split_address(address, "server"), TIMEOUT_S) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return plain.recv(5) == b"HTTP/"
    return False
