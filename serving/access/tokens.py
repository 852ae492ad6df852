"""The tokens file: which bearer tokens are let in, to which methods, on whose behalf.

    [[token]]
    name = "gateway"                                # stands in refusals and logs; the token never does
    sha256 = "9f86d081..."                          # digest of the token: the file gives nobody access
    methods = ["Route", "RouteBatch"]               # or ["*"] for all
    tenants = ["shop", ""]                          # optional: the tenants it may speak for; "" is the nameless one

A plain digest is enough: tokens are 256 random bits, which nobody guesses and no salt protects better.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from turnout.serving.errors import failed_look
from turnout.serving.files import Looks
from turnout.serving.settings import SettingsRefused

LOOK_EVERY_S = 1.0
"""How often the file is looked at, in seconds; a token taken out of it works for so long."""
LOOK_S = 1.0
"""Calls wait for so long for the file, once; then its disk hangs, and the tokens read last go on."""
MAX_FILE_BYTES = 1 << 20
PREFIX = "turnout_"
"""Begins every token, so that scanners for leaked secrets know it."""

_log = logging.getLogger("turnout.tokens")

Method = Literal[
    "Route", "RouteBatch", "RouteStream", "ReportOutcome", "DescribeModel", "Check", "CheckBatch", "CheckStream", "*"
]
State = tuple[int, int, int]
Result = Literal["ok", "refused", "unread"]
NAME = r"\A[A-Za-z0-9._-]{1,100}\Z"
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One token of the file; `tenants` is None when it may speak for any."""

    name: Annotated[str, msgspec.Meta(pattern=NAME)]
    sha256: Digest
    methods: Annotated[list[Method], msgspec.Meta(min_length=1)]
    tenants: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None

    def allows(self, method: str) -> bool:
        """Whether the token is good for this method of RouterService."""
        return method in self.methods or "*" in self.methods


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: Annotated[list[Token], msgspec.Meta(min_length=1)]


class TokensFile:
    """The tokens of a file, read again when it changes; a bad file is refused whole and the last good one stays."""

    def __init__(self, path: Path, on_reload: Callable[[Result], None] = lambda _: None) -> None:
        """Read the file; `on_reload` is told of each change whether it was taken, and of looks that failed.

        Raises:
            SettingsRefused: the file can't be used.
        """
        self._on_reload = on_reload
        self._path = path
        self._seen: State | None = _state(path)
        self._said = ""
        self._looks = Looks(LOOK_S)
        self._tokens = read_tokens(path)
        self._looked_s = time.monotonic()

    def find(self, presented: str) -> Token | None:
        """Return the token presented; None when it is unknown.

        Takes as long for each token: digests are compared, all of them, each in constant time.
        """
        self._look()
        digest = hashlib.sha256(presented.encode()).hexdigest()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        state = None
        try:
            state = self._looks(lambda: _state(self._path))
            if state == self._seen:
                return
            self._tokens = self._looks(lambda: read_tokens(self._path))
        except OSError as error:
            self._refuse(state, _hanging(self._path, error))
        except SettingsRefused as error:
            self._refuse(state, error)
        else:
            self._seen, self._said = state, ""
            _log.info("%s: %d tokens", self._path, len(self._tokens))
            self._on_reload("ok")

    def _refuse(self, state: State | None, error: SettingsRefused) -> None:
        """Keep the tokens read last; a file that could not be looked at is looked at again, for it may revoke some."""
        is_failed = failed_look(error) is not None
        if not is_failed:
            if state == self._seen:
                return  # gone, and that was said
            self._seen = state
        if not is_failed or str(error) != self._said:
            _log.warning("the tokens read last stay: %s", error)
        self._said = str(error)
        self._on_reload("unread" if is_failed else "refused")


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a tokens file.

    Raises:
        SettingsRefused: unreadable, not of this form, writable by others, or a name or digest comes twice.
            The message says where, and quotes nothing of the file.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o002:
                raise SettingsRefused(f"tokens: {path}: anybody can write to it; chmod o-w")
            tokens = msgspec.toml.decode(file.read(MAX_FILE_BYTES), type=_File).token
    except OSError as error:
        raise SettingsRefused(f"tokens: {path}: cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SettingsRefused(f"tokens: {path}: expected [[token]] tables, {_reason(error)}") from None
    for field in ("name", "sha256"):
        if len({getattr(token, field) for token in tokens}) < len(tokens):
            raise SettingsRefused(f"tokens: {path}: expected each {field} once")
    return tuple(tokens)


def new_token_lines(name: str) -> tuple[str, str]:
    """Return a new token of 256 random bits, and the lines of the tokens file that let it in everywhere.

    Raises:
        SettingsRefused: the name has other characters than ASCII letters, digits, `.`, `_` and `-`.
    """
    if re.fullmatch(NAME, name) is None:
        raise SettingsRefused(f"token name: expected 1 to 100 of A-Z a-z 0-9 . _ -, got {name!r}")
    token = PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    return token, f'[[token]]\nname = "{name}"\nsha256 = "{digest}"\nmethods = ["*"]'


def _reason(error: Exception) -> str:
    """Return where the file is wrong without what stands there, which may be a token put into the wrong field."""
    text = str(error)
    where = text[text.rindex("`$") :] if "`$" in text else text[text.rindex("(at ") :] if "(at " in text else ""
    return f"got something else {where}".strip()


def _hanging(path: Path, error: OSError) -> SettingsRefused:
    refused = SettingsRefused(f"tokens: {path}: cannot be read: {error.strerror}")
    refused.__cause__ = error
    return refused


def _state(path: Path) -> State:
    try:
        stat = path.stat()
    except OSError as error:
        raise SettingsRefused(f"tokens: {path}: cannot be read: {error.strerror}") from None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
