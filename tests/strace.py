"""What a command says to the network and leaves in its home, seen by the kernel (strace) and not by the command."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.watching import debian_program
from turnout.serving.quiet import SWITCHES

_ADDRESS = re.compile(r'inet_(?:addr\("|pton\(AF_INET6, ")([^"]+)"')
_ENDPOINT = re.compile(r'sin6?_port=htons\((\d+)\)[^}]*?inet_(?:addr\("|pton\(AF_INET6, ")([^"]+)"')
_OURS = re.compile(r"\.cache/(turnout|matplotlib)/|\.config/matplotlib/|turnout-|ray/session_|\.ray/auth_token$")
"""What may be left: our own cache of vectors, the list of fonts of matplotlib, folders of a running server, and of Ray
the logs of a cluster and the token by which its processes know each other."""

TURNOUT = (sys.executable, "-m", "turnout.serving.cli.app")
_CACHES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "MPLCONFIGDIR", "TURNOUT_CACHE")


@dataclass(frozen=True)
class Traced:
    """A command under strace, with a home and a folder for temporary files that were empty.

    Attributes:
        home: its `$HOME`.
        temporary: its `$TMPDIR`.
        calls: what strace writes.
    """

    home: Path
    temporary: Path
    calls: Path

    def command(self, *words: object) -> list[str]:
        """Return the command line that runs `words` seen by strace, its threads and children too."""
        calls = "trace=connect,sendto,sendmsg,sendmmsg,execve"
        options = ["--follow-forks", "--seccomp-bpf", "-qq", "-s", "200", "-e", calls, "-e", "signal=none"]
        strace = [debian_program("strace"), *options]  # with the filter no other call stops a process
        return [*strace, "-o", str(self.calls), *map(str, words)]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a stranger: no cache folder named, and none of our switches set."""
        theirs = {*_CACHES, *(switch.variable for switch in SWITCHES)}
        kept = {name: value for name, value in os.environ.items() if name not in theirs}
        paths = {"HOME": str(self.home), "TMPDIR": str(self.temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
        return kept | paths | more

    def addresses(self) -> set[str]:
        """Return every address of another machine that something was sent or connected to."""
        said = self.calls.read_text(errors="replace") if self.calls.exists() else ""
        found = {address.removeprefix("::ffff:") for address in _ADDRESS.findall(said)}
        return {address for address in found if not ipaddress.ip_address(address).is_loopback}

    def endpoints(self) -> set[tuple[str, int]]:
        """Return every address and port, of this machine too, that something was sent or connected to."""
        said = self.calls.read_text(errors="replace") if self.calls.exists() else ""
        return {(host.removeprefix("::ffff:"), int(port)) for port, host in _ENDPOINT.findall(said) if int(port)}

    def programs(self, *names: str) -> set[str]:
        """Return those of `names` that a program was started as, or with as an argument."""
        said = self.calls.read_text(errors="replace")
        started = [line for line in said.splitlines() if "execve(" in line]
        return {name for name in names if any(name in line for line in started)}

    def ran(self, *words: object, **more: str) -> None:
        """Run a command to its end; fails where it fails, speaks with another machine or leaves what is not ours.

        Args:
            *words: the command and its arguments.
            **more: what its environment has beside.
        """
        environment = self.environment(**more)
        done = subprocess.run(self.command(*words), env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (self.addresses(), self.strangers()) == (set(), set())

    def strangers(self) -> set[str]:
        """Return the files below home and temporary folder, relative to either, that are none of ours."""
        return {
            str(path.relative_to(top))
            for top in (self.home, self.temporary)
            for path in top.rglob("*")
            if path.is_file() and not _OURS.match(str(path.relative_to(top)))
        }


def traced(folder: Path) -> Traced:
    """Return where a command runs; skips where strace is missing or may not look."""
    run = Traced(folder / "home", folder / "temporary", folder / "calls")
    for path in (run.home, run.temporary):
        path.mkdir(parents=True)
    if subprocess.run(run.command("true"), capture_output=True, check=False).returncode:
        import pytest

        pytest.skip("strace may not trace here")
    return run


def running_for(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    """Yield some ten times a second until the time is over; fails when the process ends before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None
        yield
        time.sleep(0.1)
