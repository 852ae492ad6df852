"""A rules file while the server runs: looked at every second, taken over between two requests, or refused.

Comes in: a path, and a check against what is served. Goes out: `RulesFile.rules`, always a valid set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from turnout.serving.decision.rules.names import Check, checked_rules
from turnout.serving.decision.rules.rules import Rules
from turnout.serving.errors import RulesRefused, failed_look
from turnout.serving.files import Looks

POLL_S = 1.0
_log = logging.getLogger("turnout.rules")


@dataclass(frozen=True, slots=True)
class _Mark:
    """What tells that a file is another one; a write of the same size in the same nanosecond goes unseen."""

    mtime_ns: int
    size: int
    inode: int


class RulesFile:
    """The rules in force, from a file that may change.

    Attributes:
        path: of the file.
        rules: in force now; replaced as one object, so that a request sees either the old or the new.
        reloads: how often another content was taken over since the start.
        refusals: how often the file was refused since the start.
        refusal: why the file as it stands is refused; None while it is in force.
    """

    def __init__(
        self,
        path: Path,
        check: Check,
        poll_s: float = POLL_S,
        told: Callable[[Literal["ok", "refused", "unread"]], None] = lambda _: None,
    ) -> None:
        """Read and check the file.

        Args:
            path: of the file; may be replaced, rewritten, or gone for a while.
            check: called with rules before they come into force.
            poll_s: seconds between two looks at the file.
            told: of each content that was taken over or refused, and of looks that failed.

        Raises:
            RulesRefused: the file, or `check`, is against it: nothing to go on with at the start.
        """
        self.path = path
        self.reloads = 0
        self.refusals = 0
        self.refusal: str | None = None
        self._check = check
        self._poll_s = poll_s
        self._told = told
        self._failed: str | None = None
        self._looks = Looks()
        self._taken = self._seen = _mark(path)
        self.rules = checked_rules(path, check)

    def reload(self) -> bool:
        """Read the file now and say whether it is in force; a bad one is logged, counted, and the old rules go on.

        Where the look itself fails, nothing is known of the file: the old rules go on, and `watch` looks again.
        """
        try:
            return self._take(*self._looks(self._read))
        except OSError as error:
            self._say_unread(failed_look(error) or str(error))
            return False

    async def reload_aside(self) -> bool:
        """Do as `reload`, and read off the event loop."""
        try:
            return self._take(*await asyncio.to_thread(self._looks, self._read))
        except OSError as error:
            self._say_unread(failed_look(error) or str(error))
            return False

    def _read(self) -> tuple[_Mark | None, Rules | RulesRefused]:
        mark = _mark(self.path, self._taken)
        try:
            return mark, checked_rules(self.path, self._check)
        except RulesRefused as error:
            return mark, error

    def _take(self, mark: _Mark | None, rules: Rules | RulesRefused) -> bool:
        if isinstance(rules, RulesRefused):
            if why := failed_look(rules):
                self._say_unread(why)
                return False
            self._taken = mark
            self.refusals += 1
            self.refusal = str(rules)
            _log.error("rules refused, the old ones go on: %s", rules)
            self._told("refused")
            return False
        self._taken, self.refusal, self._failed = mark, None, None
        self._told("ok")
        if rules.spec != self.rules.spec:
            self.rules = rules
            self.reloads += 1
            _log.info("rules taken over from %s: %d rules", self.path, len(rules.spec.rules))
        return True

    async def watch(self) -> None:
        """Look at the file until cancelled, and reload it once it has changed and then stood still for one look.

        A file that is being written may end, for a moment, at a place where half of it is valid.
        """
        while True:
            await asyncio.sleep(self._poll_s)
            try:  # a file system over a network may hang
                mark = await asyncio.to_thread(self._looks, partial(_mark, self.path, self._seen))
            except OSError as error:
                self._say_unread(failed_look(error) or str(error))
                continue
            if mark == self._seen and mark != self._taken:
                await self.reload_aside()
            self._seen = mark

    def _say_unread(self, why: str) -> None:
        """Count a failed look, and log it once in a row."""
        self._told("unread")
        if why != self._failed:
            _log.warning(
                "%s: can't be looked at (%s); the old rules go on, and the next look tries again", self.path, why
            )
        self._failed = why


def _mark(path: Path, before: _Mark | None = None) -> _Mark | None:
    """Return the mark of the file, None when it is gone; that of `before` where the look itself failed."""
    try:
        stat = path.stat()
    except OSError as error:
        return None if failed_look(error) is None else before
    return _Mark(stat.st_mtime_ns, stat.st_size, stat.st_ino)
