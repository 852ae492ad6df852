"""How gRPC's connections are kept: limits, pings both ways, and an age after which they are made anew.

Settings in, options of the gRPC server out.
"""

from __future__ import annotations

from turnout.serving.settings import ServerSettings

HANDSHAKE_S = 10.0
"""How long TLS and HTTP/2 may take to come about; gRPC's own two minutes let strangers hold descriptors for nothing."""
PING_TIMEOUT_S = 20.0
"""How long a silent caller may take to answer a ping."""
PING_STRIKES = 2
"""Pings that may come too soon before the connection is closed, as gRPC has it: a flood ends with the fourth."""
AGE_SPREAD = 1.1
"""gRPC draws each connection's age within a tenth of what is asked for: callers do not come back all at once."""


def transport_options(settings: ServerSettings, *, shares_port: bool) -> tuple[tuple[str, int], ...]:
    """Return the options; `shares_port` says whether other workers listen on the same address."""
    options = (
        # With SO_REUSEPORT, gRPC's default, a second server takes half of the calls in silence.
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_receive_message_length", settings.max_transport_bytes),
        ("grpc.server.max_pending_requests", settings.max_unread_calls),
        ("grpc.server.max_pending_requests_hard_limit", 2 * settings.max_unread_calls),
        ("grpc.server_handshake_timeout_ms", _ms(HANDSHAKE_S)),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(settings.min_ping_interval_s)),
        ("grpc.http2.max_ping_strikes", PING_STRIKES),
        ("grpc.keepalive_permit_without_calls", 1),  # else idle callers may ping every two hours
        ("grpc.keepalive_time_ms", _ms(settings.keepalive_s)),
        ("grpc.keepalive_timeout_ms", _ms(PING_TIMEOUT_S)),
        ("grpc.http2.ping_timeout_ms", _ms(PING_TIMEOUT_S)),
        ("grpc.http2.max_pings_without_data", 0),  # no limit: else the third ping of ours is held back
    )
    if not settings.max_connection_age_s:
        return options
    return (
        *options,
        ("grpc.max_connection_age_ms", _ms(settings.max_connection_age_s)),
        # A stream ends itself at this age at the latest, so that the end of the grace finds none.
        ("grpc.max_connection_age_grace_ms", _ms(AGE_SPREAD * settings.max_connection_age_s + settings.grace_s + 1.0)),
    )


def _ms(seconds: float) -> int:
    return int(seconds * 1e3)
