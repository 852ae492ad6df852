"""A file on a disk that hangs: what is in force stays, it is said and counted, and no worker hangs with the disk.

A pipe that nobody writes to stands for the disk: who opens it to read waits, as at a network file system that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.builders import point_to, tiny_bundle
from tests.certificates import Authority
from tests.faults.test_workers import eventually
from tests.watching import watched_server
from turnout.serving import files
from turnout.serving.cli.scrape import scrape
from turnout.serving.client import Router
from turnout.serving.files import Looks
from turnout.serving.server.heartbeat import SILENT_S

pytestmark = pytest.mark.slow

LONG_S = 60.0
TOKEN = "turnout_only-for-this-test"
TOKENS = f'[[token]]\nname = "one"\nsha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\nmethods = ["*"]\n'


def let_go(pipe: Path, *, until: Callable[[], bool]) -> bool:
    """Let all who wait at the pipe read its end, as a disk does that is back."""

    def is_over() -> bool:
        with contextlib.suppress(OSError):
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        time.sleep(0.1)
        return until()

    return eventually(is_over, LONG_S)


@pytest.mark.parametrize(
    "kind", ["rules", *(pytest.param(one, marks=pytest.mark.slow) for one in ("tokens", "bundle", "tls"))]
)
def test_a_file_that_hangs_is_unread_and_hangs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    entry, authority = tmp_path / "tiny", Authority("tests")
    tiny_bundle(entry / "1", version="1")
    point_to(entry, "1")
    (tmp_path / "rules.toml").write_text("")
    (tmp_path / "tokens.toml").write_text(TOKENS)
    cert, key = authority.leaf("server").write(tmp_path / "tls")
    watched = {"rules": tmp_path / "rules.toml", "tokens": tmp_path / "tokens.toml", "bundle": entry / "CURRENT"}
    path = (watched | {"tls": cert})[kind]
    options = ("--rules", watched["rules"], "--tokens", watched["tokens"], "--tls-cert", cert, "--tls-key", key)
    credentials = grpc.ssl_channel_credentials(authority.pem)
    with watched_server(entry, tmp_path / "log", *map(str, options), workers=1) as (server, url):

        def total(name: str, **labels: str) -> float:
            return scrape(url, LONG_S).total(f"turnout_{name}", **labels)

        def is_answered() -> bool:
            with Router(server.address, timeout_s=LONG_S, credentials=credentials, token=TOKEN) as router:
                began_s = time.monotonic()
                assert router.route(text="hello").fallback_reason is None
            return time.monotonic() - began_s < LONG_S / 2

        content = path.read_bytes()
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        pipe.rename(path)
        ends_s = time.monotonic() + SILENT_S + 4
        while time.monotonic() < ends_s:
            assert is_answered()
            time.sleep(0.3)
        assert eventually(lambda: is_answered() and total("reloads_total", kind=kind, result="unread") > 0, LONG_S)
        assert "no answer from the disk" in server.log.read_text()
        assert total("worker_ends_total") == 0
        path.rename(pipe)
        path.write_bytes(content)
        unread = lambda: total("reloads_total", kind=kind, result="unread")  # noqa: E731  # one line, one use
        n_unread = unread()

        def is_read() -> bool:
            nonlocal n_unread
            before, n_unread = n_unread, unread()
            return is_answered() and before == n_unread

        assert let_go(pipe, until=is_read)
        assert total("worker_ends_total") == 0


def test_one_look_hangs_and_the_next_ones_fail_at_once_until_another_is_due(monkeypatch: pytest.MonkeyPatch):
    looks, comes_back = Looks(0.2), threading.Event()
    assert looks(lambda: 1) == 1
    with pytest.raises(OSError, match=r"within 0.2 s") as raised:
        looks(comes_back.wait)
    assert raised.value.errno == errno.ETIMEDOUT
    began_s = time.monotonic()
    for _ in range(100):
        with pytest.raises(OSError, match=r"within 0.2 s"):
            looks(lambda: 1)
    assert time.monotonic() - began_s < 10  # each that looked would wait 0.2 s
    monkeypatch.setattr(files, "AGAIN_S", 0.0)
    assert looks(lambda: 2) == 2  # what hangs is no longer what is looked at
    for _ in range(files.MOST_HANGING + 3):
        with pytest.raises(OSError, match=r"within 0.2 s"):
            looks(comes_back.wait)
    assert sum(one.name == "turnout-look" for one in threading.enumerate()) <= files.MOST_HANGING + 1
    comes_back.set()
    assert eventually(lambda: not any(one.name == "turnout-look" for one in threading.enumerate()), LONG_S)
    assert looks(lambda: 3) == 3


def test_what_a_look_raises_is_raised():
    looks = Looks(5.0)
    for error in (FileNotFoundError(2, "no"), TimeoutError("its own"), ValueError("x")):
        with pytest.raises(type(error)) as raised:
            looks(lambda error=error: (_ for _ in ()).throw(error))
        assert raised.value is error
