"""From when to when certificates hold: PEM in, moments out, and the refusal of those that do not hold now.

Read from the DER itself, ten fixed steps into it: Python's `ssl` tells the dates of a peer's certificate and of
authorities only, and the library that reads all of X.509 belongs to an extra.
"""

from __future__ import annotations

import datetime as dt
import re
import ssl
from dataclasses import dataclass

SOON_S = 14 * 86_400.0
SOON_SHARE = 0.2
"""A certificate with less than both left expires soon: two weeks of one of 90 days, five hours of one of a day."""

SAY_EVERY_S = 86_400.0
"""How often it is said of one that expires soon, or has expired."""

_PEM = re.compile(
    r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.+?-----END (?:TRUSTED |X509 )?CERTIFICATE-----", re.DOTALL
)
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


@dataclass(frozen=True, slots=True)
class Validity:
    """When a certificate begins and ends to hold, in Unix time."""

    begins_s: float
    ends_s: float

    def trouble(self, now_s: float) -> str:
        """Return why it does not hold now; empty when it does."""
        if now_s < self.begins_s:
            return f"not yet valid, from {_day(self.begins_s)}"
        return f"expired {_day(self.ends_s)}" if now_s > self.ends_s else ""

    def says_again_at_s(self, now_s: float) -> float:
        """Return when there is something to say of its end: once it comes near, then daily, and when it is there."""
        near_s = self.ends_s - min(SOON_S, SOON_SHARE * (self.ends_s - self.begins_s))
        moments = (near_s, self.ends_s, now_s + SAY_EVERY_S)
        return min(moment for moment in moments if moment > now_s) if now_s >= near_s else near_s

    def ends_soon(self, now_s: float) -> bool:
        """Whether it is time to renew it."""
        return self.ends_s - now_s < min(SOON_S, SOON_SHARE * (self.ends_s - self.begins_s))


def validities(pem: str) -> list[Validity]:
    """Return the validity of each certificate of a PEM file, in its order; raises `ValueError` when one is none."""
    try:
        return [
            _validity(ssl.PEM_cert_to_DER_cert(found.replace("TRUSTED ", "").replace("X509 ", "")))
            for found in _PEM.findall(pem)
        ]
    except IndexError:
        raise ValueError("a certificate is cut off") from None


def _validity(der: bytes) -> Validity:
    _, certificate, _ = _element(der)
    _, fields, _ = _element(certificate)
    tag, _, rest = _element(fields)
    n_before = 3 if tag == _VERSION else 2  # serial number, algorithm, issuer; the version is left out in version 1
    for _ in range(n_before):
        _, _, rest = _element(rest)
    tag, dates, _ = _element(rest)
    if tag != _SEQUENCE:
        raise ValueError("a certificate has no validity")
    begins_tag, begins, rest = _element(dates)
    ends_tag, ends, _ = _element(rest)
    return Validity(_moment(begins_tag, begins), _moment(ends_tag, ends))


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Return tag and content of the first element, and what follows it."""
    length, begin = der[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(der[2:begin], "big")
    return der[0], der[begin : begin + length], der[begin + length :]


def _moment(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()


def _day(moment_s: float) -> str:
    return f"{dt.datetime.fromtimestamp(moment_s, dt.UTC):%Y-%m-%d %H:%M} UTC"
