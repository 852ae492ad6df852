"""A registry whose promotions are killed: `CURRENT` always names a whole bundle, and the next promotion goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.builders import tiny_bundle
from tests.running import environment
from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.registry import resolve

KILLS = 4
FLIP = """
import itertools, sys
from pathlib import Path
from turnout.serving.bundles.entry import Entry
entry = Entry(Path(sys.argv[1]), "tiny")
print("ready", flush=True)
for version in itertools.cycle(("1", "2")):
    if entry.current() != version:
        entry.promote(version)
"""


def test_promotion_killed_at_any_moment_leaves_a_whole_pointer(tmp_path: Path):
    for version in ("1", "2"):
        tiny_bundle(tmp_path / "tiny" / version, version=version, bias=3.0 + float(version))
    entry, rng = Entry(tmp_path, "tiny"), random.Random(4)
    entry.promote("1")
    for _ in range(KILLS):
        flipping = subprocess.Popen(
            [sys.executable, "-c", FLIP, tmp_path], stdout=subprocess.PIPE, env=environment(), text=True
        )
        assert flipping.stdout is not None
        assert flipping.stdout.readline() == "ready\n"
        now_s, n_before = time.monotonic(), len(entry.history())
        end_s, give_up_s = now_s + rng.uniform(0.02, 0.15), now_s + 60
        while (now_s := time.monotonic()) < end_s or (len(entry.history()) == n_before and now_s < give_up_s):
            assert read_manifest(resolve(entry.folder)).version in ("1", "2")
        flipping.send_signal(signal.SIGKILL)
        flipping.wait()
        flipping.stdout.close()
        assert read_manifest(resolve(entry.folder)).version == entry.current()
        history = entry.history()
        assert all(change.version in ("1", "2") for change in history)
        other = "2" if entry.current() == "1" else "1"
        assert entry.promote(other).version == entry.current() == other
    assert len(entry.history()) > KILLS + 1
