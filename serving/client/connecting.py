"""How both clients connect: gRPC's options for channels, and pings that find a connection dead within seconds.

A client's settings in, options for a channel out. Without pings a connection whose other end is gone without a
word (a node lost, an entry of a NAT dropped, a partition) fails every call until Linux gives up after 15 minutes.
"""

from __future__ import annotations

from pathlib import Path

ChannelOptions = tuple[tuple[str, str | int], ...]

SERVICE_CONFIG = Path(__file__).with_name("service_config.json").read_text(encoding="utf-8")
"""gRPC's own words for how to call replicas, for clients of any language: in turns, those that say SERVING, and with
retries where the contract has them. See docs/gateways/replicas.md for each figure."""

CHANNEL_OPTIONS: ChannelOptions = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also how long a connection may take to come about
    ("grpc.max_reconnect_backoff_ms", 1000),  # the default of two minutes is two minutes of strong answers
    ("grpc.enable_http_proxy", 0),  # prompts go to the router and nowhere else
    ("grpc.use_local_subchannel_pool", 1),  # else a new client in the process takes over the dead connection of the old
)
WITHOUT_HEALTH = ("grpc.inhibit_health_checking", 1)

PING_S = 10.0
"""Seconds without a byte from the server before it is asked for a sign of life."""
PING_TIMEOUT_S = 4.0
"""Seconds that it then has, before the connection is left: 14 s after the last byte at the latest."""


def channel_options(
    *, watch_health: bool, ping_s: float = PING_S, ping_timeout_s: float = PING_TIMEOUT_S, more: ChannelOptions = ()
) -> ChannelOptions:
    """Return the options of a channel; `more` are the caller's own and go before ours.

    Raises:
        ValueError: a time that is no number of seconds above 0; `ping_s` may be 0, for no pings.
    """
    options = CHANNEL_OPTIONS if watch_health else (*CHANNEL_OPTIONS, WITHOUT_HEALTH)
    if ping_s:
        options += (
            ("grpc.keepalive_time_ms", _milliseconds("ping_s", ping_s)),
            ("grpc.keepalive_timeout_ms", _milliseconds("ping_timeout_s", ping_timeout_s)),
            ("grpc.keepalive_permit_without_calls", 1),  # idle clients find out before their next call
            # The ping that follows a call given up waits by its own clock, of a minute, and holds back all others.
            ("grpc.http2.ping_timeout_ms", _milliseconds("ping_timeout_s", ping_timeout_s)),
            ("grpc.http2.max_pings_without_data", 0),  # no limit: else the third ping is held back
        )
    own = dict(more)
    return (*(option for option in options if option[0] not in own), *own.items())


def _milliseconds(name: str, seconds: float) -> int:
    if not 0.001 <= seconds <= 86_400:
        raise ValueError(f"{name}: expected seconds, 0.001 to 86400, got {seconds}")
    return int(seconds * 1e3)
