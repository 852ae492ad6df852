"""Compaction on rotation: starts `turnout logs compact` whenever the spool holds sealed files that it has not seen.

A process of its own, at the lowest priority: the server needs no pyarrow, and a fault there stays there. Every
worker looks; a lock in the spool lets one of them start a process at a time. Killed together with the server or alone,
the next run goes on where it was (`turnout.training.compaction`).
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

from turnout.serving.errors import how_to_install
from turnout.serving.settings import ServerSettings, SettingsRefused
from turnout.serving.spool.files import SEALED, make_folder

INTERVAL_S = 5.0
LOCK = "compact.lock"
_NEEDED = ("training", "pyarrow")
_LOWEST = ("nice", "-n", "19")

_log = logging.getLogger("turnout.compaction")


class Compacting:
    """Compacts one spool into one folder.

    Attributes:
        n_runs: processes that this worker has started and seen end.
    """

    def __init__(self, settings: ServerSettings) -> None:
        """Take spool, folder and days to keep; nothing is started before `watch`.

        Raises:
            SettingsRefused: what the command needs is not installed.
        """
        if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
            raise SettingsRefused(
                f"compact_to: turnout logs compact needs {', '.join(missing)}; "
                f"{how_to_install('train')}; or leave it out and compact on another machine"
            )
        spool = settings.spool
        if spool is None:
            raise SettingsRefused("compact_to: expected a spool to compact; give spool as well")
        self.n_runs = 0
        self._spool: Path = spool
        self._command = [
            *_LOWEST,
            sys.executable,
            "-P",
            "-m",
            "turnout.serving.cli.app",
            "logs",
            "compact",
            str(spool),
            "--json",
        ]
        self._command += ["--out", str(settings.compact_to)]
        if settings.compact_keep_days is not None:
            self._command += ["--keep-days", str(settings.compact_keep_days)]
        self._left: frozenset[str] = frozenset()

    async def watch(self, interval_s: float = INTERVAL_S) -> None:
        """Look into the spool until cancelled."""
        while True:
            await asyncio.to_thread(self.run_if_new)
            await asyncio.sleep(interval_s)

    def run_if_new(self) -> None:
        """Compact, and wait for the end of it, if there are sealed files that no run before has left there.

        Files with damage stay in the spool; they alone start no further run.
        """
        found = self._sealed()
        if not found - self._left:
            return
        make_folder(self._spool)
        with (self._spool / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another worker is at it
                return
            self._run()
        self._left = found & self._sealed()  # not what was sealed while the run was at work

    def _sealed(self) -> frozenset[str]:
        return frozenset(path.name for path in self._spool.glob("*" + SEALED))

    def _run(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            # In a group of its own: Ctrl-C at the server's terminal does not break it off.
            ended = subprocess.run(  # noqa: S603  # a command of this project, with the operator's own folders
                self._command, env=environment, capture_output=True, text=True, check=False, process_group=0
            )
        except OSError as error:
            _log.error("compaction can't be started: %s", error.strerror)
            return
        self.n_runs += 1
        if ended.returncode:
            last = (ended.stderr.strip() or ended.stdout.strip()).rpartition("\n")[2]
            _log.error("compaction ended with exit code %d: %s", ended.returncode, last)
        else:
            _log.info("compacted: %s", ended.stdout.strip())
