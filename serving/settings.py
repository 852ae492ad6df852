"""Settings of the server, and where its bundles come from: frozen dataclasses, refused when they contradict."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from turnout.serving.errors import EXIT_USAGE, TurnoutError
from turnout.serving.spool.decision import LogDecisions

DEFAULT_LISTEN = "127.0.0.1:50151"
UNIX = "unix:"
MAX_UNIX_BYTES = 107
"""What Linux takes for the path of a socket."""
MAX_CONNECTION_S = 86_400.0
"""Bound of the times of a connection: gRPC takes milliseconds in 31 bits."""


class SettingsRefused(TurnoutError):
    """A setting that can't work; the message names it, what was expected and what was given."""

    exit_code = EXIT_USAGE


class ExtProc(StrEnum):
    """OFF: the service is not there. HEADERS: `x-turnout-*` are set. REWRITE: `"model"` in the body as well."""

    OFF = "off"
    HEADERS = "headers"
    REWRITE = "rewrite"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How the server listens, limits and stops.

    Attributes:
        listen: `host:port`; port 0 takes a free one. Anything but loopback needs TLS or `insecure_public`. Or
            `unix:/path` of a socket, for callers on this machine that its folder lets in, and for one worker.
        http: `host:port` of the HTTP port, which needs the extra `http`; empty for none. As `listen`, anything but
            loopback needs TLS or `insecure_public`.
        page: whether `GET /` at the HTTP port is a page to try a prompt on. It is open; what it shows stands behind the
            tokens.
        http_head_s: how long a request line with its headers may take over HTTP, and the first request of a connection.
        http_keep_alive_s: how long a connection over HTTP may be idle between requests. Let gateways keep theirs
            shorter, or give more here: a request on its way to a connection that this side closes is lost.
        max_http_connections: held at once over HTTP, per worker; beyond it the one that has waited longest on its
            caller is closed. Capped at half of the descriptors that the process may have.
        max_http_requests: being answered at once over HTTP, per worker, once their bodies are there; more are
            UNAVAILABLE. Idle connections, health and what the upstream answers, such as chat completions, do not
            count.
        min_ping_interval_s: pings of gRPC clients without data may come as often; twice oftener, and their connection
            is closed (ENHANCE_YOUR_CALM). Envoy, grpc-go and our own clients send one every 10 s.
        keepalive_s: gRPC connections that are silent this long are asked for a sign of life, and closed without one.
        max_connection_age_s: gRPC connections this old, give or take a tenth, are to be made anew, and HTTP ones end
            with their next answer, so that a worker that was replaced gets its share; a `RouteStream` this old is
            ended, answered to its last request read. 0 for never.
        max_request_bytes: a larger request is INVALID_ARGUMENT. Too low refuses long conversations.
        max_batch_items: a `RouteBatch` of more is INVALID_ARGUMENT.
        max_batch_bytes: a larger `RouteBatch` is INVALID_ARGUMENT; each item still has `max_request_bytes`.
        max_stream_items: requests of one `RouteStream` read ahead of what its caller has taken. Higher lets one
            stream hold more memory and more of the queue.
        max_queue_items: items that wait for the model or run on it, per worker; more are RESOURCE_EXHAUSTED.
            256 items at 0.3 ms (fast head) wait 0.1 s, at 3 ms (encoder) 0.8 s: hardly a caller has longer.
            Higher means longer waits, not more answers.
        max_unread_calls: calls that gRPC keeps for the event loop to read; beyond it drops some, beyond twice as many
            all, as CANCELLED. Higher lets bursts in and has callers wait in vain: at gRPC's own 1,000, with a deadline
            of 0.25 s, a worker offered four times what it can do did a sixth of it; at 256 a third (decisions/0002).
        max_tenant_share: share of `max_queue_items`, in (0, 1], that one tenant may hold once the queue is half
            full; calls without a tenant are one tenant. 1 lets one caller take all.
        max_transport_bytes: a larger message is refused unread (RESOURCE_EXHAUSTED); above `max_request_bytes`.
        lame_duck_s: how long a stopping server says NOT_SERVING while it still answers new calls. Below the
            interval at which balancers look, they see refused connections.
        grace_s: how long a stopping server waits for calls in flight before it breaks them off.
        reflection: whether clients may list the services; tells strangers what runs here. None: on loopback only.
        early_exit: whether the fast head may answer; without it the encoder runs for every request.
        rules: TOML file of rules, read again when it changes; None leaves everything to model and guards.
        spool: folder that outcomes are written to; made if need be, for its owner alone. None: outcomes are
            refused (UNIMPLEMENTED). Put it on a disk of the machine: each answer to a report waits for its fsync.
        spool_max_file_bytes: a file of the spool this long is sealed and the next one begun. Readers hold a file
            in memory; much lower makes many files.
        spool_max_age_s: likewise a file this old, so that what reads sealed files gets to see its outcomes.
        spool_max_pending: outcomes that wait for the disk or are being written, per worker; more are
            RESOURCE_EXHAUSTED. Higher costs memory and patience on a slow disk, and gains nothing on a fast one.
        log_decisions: what the decision log in `spool` keeps of each prompt. Off unless asked for: prompts are personal
            data, and an update must not begin to keep them. `digest` keeps no text, but counts of its word pieces
            and, where both models' answers are wanted, a vector: what a router is learned from.
        tighten: whether a promise (`max_worse`) is served at stricter thresholds while judged pairs of the month say
            that it would break. Needs `spool` for the outcomes, and `rules` that explore `both`. Costs a tenth to a
            third of what the weak model answers (decisions/serving/0005).
        compact_to: folder that sealed files of `spool` are compacted into, as Parquet, by a process of its own at the
            lowest priority; None leaves that to a timer of the operator's. Needs the extra `train`.
        compact_keep_days: days that are kept there; None keeps all.
        tls_cert: PEM file with the server's certificate chain, leaf first; None for plain text.
        tls_key: PEM file with its private key, without a passphrase. Both are read again when they change.
        tls_client_ca: PEM file with the authorities that clients' certificates must come from; None asks for none.
        tokens: TOML file of the bearer tokens that are let in; None lets everybody in. Read again on change.
        ext_proc: what Envoy's external processor may change in requests; off: the service is not there.
        ext_proc_timeout_s: how long a decision for Envoy may take before the strong model is the answer. Below Envoy's
            `message_timeout` (0.2 s unless set), after which Envoy fails the request or lets it pass undecided.
        upstream: base URL of an OpenAI-compatible server that holds both models, such as https://api.openai.com/v1:
            chat completions at the HTTP port are answered through it; empty for none.
        upstream_timeout_s: how long one chat completion may take in all, both models' answers included; of a stream
            how long it may take to begin, and then each pause in it, so that one that goes on may last longer. The
            weak model gets half of it at most, so that the strong one still can answer.
        self_check: whether the weak model is asked once more if its answer is right, where it is to be checked: one
            call and one token more, and a signal for models that give no log-probabilities of their answers.
        insecure_public: whether to listen beyond loopback without TLS: prompts and tokens can be read on the way.
    """

    listen: str = DEFAULT_LISTEN
    http: str = ""
    page: bool = True
    http_head_s: float = 10.0
    http_keep_alive_s: float = 20.0
    max_http_connections: int = 4096
    max_http_requests: int = 512
    min_ping_interval_s: float = 5.0
    keepalive_s: float = 60.0
    max_connection_age_s: float = 300.0
    max_request_bytes: int = 4 << 20
    max_batch_items: int = 100
    max_batch_bytes: int = 8 << 20
    max_stream_items: int = 32
    max_queue_items: int = 256
    max_unread_calls: int = 256
    max_tenant_share: float = 0.5
    max_transport_bytes: int = 16 << 20
    lame_duck_s: float = 0.5
    grace_s: float = 5.0
    reflection: bool | None = None
    early_exit: bool = True
    rules: Path | None = None
    spool: Path | None = None
    spool_max_file_bytes: int = 64 << 20
    spool_max_age_s: float = 3600.0
    spool_max_pending: int = 4096
    log_decisions: LogDecisions = LogDecisions.OFF
    tighten: bool = False
    compact_to: Path | None = None
    compact_keep_days: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tokens: Path | None = None
    ext_proc: ExtProc = ExtProc.OFF
    ext_proc_timeout_s: float = 0.15
    upstream: str = ""
    upstream_timeout_s: float = 300.0
    self_check: bool = False
    insecure_public: bool = False

    def __post_init__(self) -> None:
        for name in self._addresses():
            if name != "listen" or unix_path(self.listen) is None:
                split_address(getattr(self, name), name)
        self._check_limits()
        self._check_security()

    @property
    def reflects(self) -> bool:
        """Whether clients may list the services."""
        return is_loopback(self.listen) if self.reflection is None else self.reflection

    def _check_limits(self) -> None:
        if not 0 < self.max_request_bytes < self.max_transport_bytes:
            raise SettingsRefused(
                f"max_request_bytes: expected 0 < max_request_bytes < max_transport_bytes, "
                f"got {self.max_request_bytes} and {self.max_transport_bytes}"
            )
        if not 0 < self.max_batch_bytes < self.max_transport_bytes:
            raise SettingsRefused(
                f"max_batch_bytes: expected 0 < max_batch_bytes < max_transport_bytes, "
                f"got {self.max_batch_bytes} and {self.max_transport_bytes}"
            )
        self._check_spool()
        self._check_upstream()
        if not (math.isfinite(self.ext_proc_timeout_s) and self.ext_proc_timeout_s > 0):
            raise SettingsRefused(f"ext_proc_timeout_s: expected seconds above 0, got {self.ext_proc_timeout_s}")
        for name in ("max_batch_items", "max_stream_items", "max_queue_items", "max_unread_calls", "spool_max_pending"):
            if getattr(self, name) < 1:
                raise SettingsRefused(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if not 0 < self.max_tenant_share <= 1:
            raise SettingsRefused(f"max_tenant_share: expected a share in (0, 1], got {self.max_tenant_share}")
        for name in ("lame_duck_s", "grace_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingsRefused(f"{name}: expected seconds, 0 or more, got {value}")
        self._check_connections()

    def _check_connections(self) -> None:
        for name in ("http_head_s", "http_keep_alive_s", "min_ping_interval_s", "keepalive_s"):
            value = getattr(self, name)
            if not 0 < value <= MAX_CONNECTION_S:
                raise SettingsRefused(f"{name}: expected seconds above 0, at most {MAX_CONNECTION_S:.0f}, got {value}")
        if not 0 <= self.max_connection_age_s <= MAX_CONNECTION_S:
            raise SettingsRefused(
                f"max_connection_age_s: expected seconds, at most {MAX_CONNECTION_S:.0f}, or 0 for never, "
                f"got {self.max_connection_age_s}"
            )
        for name in ("max_http_connections", "max_http_requests"):
            if getattr(self, name) < 1:
                raise SettingsRefused(f"{name}: expected 1 or more, got {getattr(self, name)}")

    def _check_upstream(self) -> None:
        if not (math.isfinite(self.upstream_timeout_s) and self.upstream_timeout_s > 0):
            raise SettingsRefused(f"upstream_timeout_s: expected seconds above 0, got {self.upstream_timeout_s}")
        if not self.upstream:
            if self.self_check:
                raise SettingsRefused("self_check: expected upstream as well; nobody else can be asked")
            return
        if not self.http:
            raise SettingsRefused("upstream: expected http as well; chat completions are answered at the HTTP port")
        parts = urlsplit(self.upstream)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise SettingsRefused("upstream: expected a base URL such as https://api.openai.com/v1")

    def _check_spool(self) -> None:
        if self.log_decisions is not LogDecisions.OFF and self.spool is None:
            raise SettingsRefused(f"log_decisions: {self.log_decisions} needs a folder to write to; give spool as well")
        if self.tighten and (self.spool is None or self.rules is None):
            raise SettingsRefused(
                "tighten: expected spool and rules as well; it goes by outcomes of requests that `both` explored"
            )
        if self.compact_keep_days is not None and (self.compact_to is None or self.compact_keep_days < 1):
            raise SettingsRefused("compact_keep_days: expected 1 or more, and compact_to as well")
        if not 1 << 10 <= self.spool_max_file_bytes <= 1 << 30:
            raise SettingsRefused(f"spool_max_file_bytes: expected 1 KiB to 1 GiB, got {self.spool_max_file_bytes}")
        if not (math.isfinite(self.spool_max_age_s) and self.spool_max_age_s > 0):
            raise SettingsRefused(f"spool_max_age_s: expected seconds above 0, got {self.spool_max_age_s}")

    def _check_security(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsRefused("tls_cert, tls_key: expected both or none; one is of no use without the other")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise SettingsRefused("tls_client_ca: expected tls_cert and tls_key as well; clients are known by TLS only")
        public = [name for name in self._addresses() if not is_loopback(getattr(self, name))]
        if self.tls_cert is None and not self.insecure_public and public:
            at_stake = "prompts" if self.tokens is None else "prompts and tokens"
            raise SettingsRefused(
                f"{public[0]}: {getattr(self, public[0])} can be reached from other machines, and without TLS others "
                f"can read {at_stake} on the way; give tls_cert and tls_key, or insecure_public where something else "
                f"encrypts"
            )

    def _addresses(self) -> tuple[str, ...]:
        return ("listen", "http") if self.http else ("listen",)


def split_address(listen: str, name: str = "listen") -> tuple[str, int]:
    """Split `host:port` or `[ipv6]:port`; a refusal calls it by its name among the settings.

    Raises:
        SettingsRefused: there is no host, or no port from 0 to 65535.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise SettingsRefused(f"{name}: expected host:port such as {DEFAULT_LISTEN}, got {listen!r}")
    if host == "*":  # which the resolver takes for loopback, and gRPC for nothing
        raise SettingsRefused(f"{name}: expected a host, got *; all addresses are 0.0.0.0:{port} or [::]:{port}")
    return host, int(port)


def unix_path(listen: str) -> Path | None:
    """Return the path of `unix:/path` or `unix:///path`; None for an address of another kind.

    Raises:
        SettingsRefused: the path is not absolute, or longer than a socket's may be.
    """
    if not listen.startswith(UNIX):
        return None
    path = listen.removeprefix(UNIX)
    path = path.removeprefix("//") if path.startswith("///") else path
    if not path.startswith("/") or path.startswith("//") or len(path.encode()) > MAX_UNIX_BYTES:
        raise SettingsRefused(
            f"listen: expected unix:/path, absolute and at most {MAX_UNIX_BYTES} bytes long, got {listen!r}"
        )
    return Path(path)


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach the address; host names other than `localhost` count as public."""
    if unix_path(listen) is not None:
        return True
    host, _ = split_address(listen)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the bundles come from: each a bundle's folder, or a folder of the registry that holds `CURRENT`.

    Attributes:
        bundles: folders; the first is the default, requests and rules name the others. None: the champion that ships.
        canary: challenger that answers `canary_share` of what the default would.
        canary_share: share of sessions, or of requests without one, in [0, 1].
        shadow: challenger that scores `shadow_share` of the traffic and changes nothing.
        shadow_share: as `canary_share`.
        cache_items: predictions kept in memory for each bundle, by digest of the prompt; 0 for none.
        native_head: whether the first stage answers in C, where the extension is installed and says what the graph
            says: a tenth of its time. `turnout doctor` tells which path serves, and why.
        allow_other_pair: whether a challenger, or a bundle that a `CURRENT` comes to name, may be of another pair of
            models than what it stands beside or follows: callers are then told other models than before.
        allow_synthetic: whether one that was trained on synthetic data may stand beside or follow one that was not.
        trusted_key: PEM file with the Ed25519 public key that must have signed every bundle; None asks for none.
    """

    bundles: tuple[Path, ...] = ()
    canary: Path | None = None
    canary_share: float = 0.05
    shadow: Path | None = None
    shadow_share: float = 1.0
    cache_items: int = 10_000
    native_head: bool = True
    trusted_key: Path | None = None
    allow_other_pair: bool = False
    allow_synthetic: bool = False

    def __post_init__(self) -> None:
        if self.cache_items < 0:
            raise SettingsRefused(f"cache_items: expected 0 or more, got {self.cache_items}")
        for name in ("canary_share", "shadow_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SettingsRefused(f"{name}: expected a share in [0, 1], got {getattr(self, name)}")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them, in the order default, others, canary, shadow."""
        return (*self.bundles, *(path for path in (self.canary, self.shadow) if path is not None))
