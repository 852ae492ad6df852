"""One scrape of a running server: a URL in, a `Snapshot` of its series out."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from turnout.serving.errors import TurnoutError

DEFAULT_URL = "http://127.0.0.1:9464/metrics"
MAX_BYTES = 16 << 20
TIMEOUT_S = 2.0


class NotScraped(TurnoutError):
    """There are no metrics at that address; exit code 1."""


@dataclass(frozen=True, slots=True)
class Series:
    """One value of one set of labels."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All series of one scrape.

    Attributes:
        at_s: when, on the monotonic clock.
        server_time_s: what the server's own clock said, in Unix time, whole seconds; None when it did not say.
        series: what it counted.
    """

    at_s: float
    server_time_s: float | None
    series: tuple[Series, ...]

    def matching(self, name: str, **labels: str) -> Iterator[Series]:
        """Yield the series of that name with those labels."""
        for series in self.series:
            if series.name == name and labels.items() <= series.labels.items():
                yield series

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over the series of that name with those labels; 0 when there is none."""
        return sum(series.value for series in self.matching(name, **labels))


def scrape(url: str = DEFAULT_URL, timeout_s: float = TIMEOUT_S) -> Snapshot:
    """Read the metrics at a URL.

    Raises:
        NotScraped: the URL is not HTTP, nobody answers, or the answer is not in Prometheus' format.
    """
    host, port, path = _address(url)
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=timeout_s)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read(MAX_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotScraped(
            f"{url}: no metrics there ({type(error).__name__}); is the server running, and with --metrics?"
        ) from None
    if response.status != http.client.OK:
        raise NotScraped(f"{url}: expected status 200, got {response.status}")
    date = response.getheader("Date")
    server_time_s = parsedate_to_datetime(date).timestamp() if date else None
    return Snapshot(time.monotonic(), server_time_s, _parse(url, body))


def _address(url: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        if parts.scheme == "http" and parts.hostname:
            return parts.hostname, parts.port or http.client.HTTP_PORT, parts.path or "/metrics"
    except ValueError:  # such as a port over 65535
        pass
    raise NotScraped(f"metrics: expected a URL such as {DEFAULT_URL}, got {url!r}")


def _parse(url: str, body: bytes) -> tuple[Series, ...]:
    from prometheus_client.parser import text_string_to_metric_families  # see metrics.py

    try:
        families = list(text_string_to_metric_families(body.decode()))
    except (ValueError, IndexError, KeyError) as error:
        raise NotScraped(f"{url}: the answer is not in Prometheus' text format ({type(error).__name__})") from None
    return tuple(
        Series(sample.name, sample.labels, float(sample.value)) for family in families for sample in family.samples
    )
