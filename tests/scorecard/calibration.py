"""S0: what this machine can do just now. Every other figure is held against it.

The model in process, one prompt after the other on one thread, the encoder for every prompt, mixed prompts.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.sample.sample import make_sample

N_TEXTS = 400


class Calibration(msgspec.Struct, frozen=True):
    """The model in process.

    Attributes:
        rate: prompts a second of wall time: the C of the checks.
        cpu_rate: prompts a second of CPU time.
        p50_ms: of one prompt.
        seconds: how long it was measured.
    """

    rate: float
    cpu_rate: float
    p50_ms: float
    seconds: float


@functools.cache
def mixed_texts() -> list[str]:
    """Return prompts of many tasks, languages and lengths; invented, the same in every run."""
    texts = [
        "\n\n".join(str(message["content"]) for message in row["request"]["messages"])
        for row in make_sample(N_TEXTS, 7)
    ]
    return [text * (1 + 3 * (n % 10 == 0)) for n, text in enumerate(texts)]  # a tail of long ones


def calibrate(folder: Path, seconds: float) -> Calibration:
    """Measure in a process of its own, as the server is one."""
    command = [sys.executable, "-m", "tests.scorecard.calibration", str(folder), str(seconds)]
    done = subprocess.run(command, capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Calibration)


def _measure(folder: Path, seconds: float) -> Calibration:
    bundle = load_bundle(folder)
    threshold = bundle.manifest.policy("").threshold
    texts = mixed_texts()
    for text in texts:
        bundle.model.predict(prompt_from_text(text), threshold, early_exit=False)
    took_ms, started, cpu_s = [], time.perf_counter(), time.process_time()
    while (now := time.perf_counter()) < started + seconds:
        text = texts[len(took_ms) * 7919 % len(texts)]
        bundle.model.predict(prompt_from_text(text), threshold, early_exit=False)
        took_ms.append((time.perf_counter() - now) * 1e3)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    return Calibration(len(took_ms) / wall_s, len(took_ms) / cpu_s, statistics.median(took_ms), wall_s)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_measure(Path(sys.argv[1]), float(sys.argv[2]))))
