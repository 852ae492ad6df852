"""R21 and R22: bundles that come and go under load, good ones and bad ones."""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from tests.builders import point_to, tiny_bundle
from tests.hostile import DAMAGES, HOSTILE
from tests.scorecard import load
from tests.scorecard.calibration import mixed_texts
from tests.scorecard.conditions import Conditions
from tests.scorecard.held_load import health_probe, ledger
from tests.scorecard.lines import Line, all_of, at_most, none_of
from tests.scorecard.service import Service, service
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.wire.route import DESCRIBE_MODEL_METHOD

LONGEST_SWAP_S = 20.0
LONGEST_LOAD_S = 3_600.0
"""The load is ended when the last swap is done."""


def _entry(folder: Path) -> Path:
    """Write a registry entry with two versions that answer differently; version 1 is current."""
    tiny_bundle(folder / "1", version="1")
    tiny_bundle(folder / "2", version="2", bias=2.0)
    point_to(folder, "1")
    return folder


def swaps(conditions: Conditions) -> Iterator[Line]:
    """R21: two versions take turns at 0.6 C, each reply's p_match held against that of the version it names."""
    entry = _entry(conditions.scratch / "r21")
    n_swaps = conditions.sized(fast=12, full=50)
    with service(entry, conditions.scratch) as served:
        load.drive(conditions.plan(served, 2))
        before = served.route_codes()
        rate = 0.6 * conditions.calibration.rate
        running = load.start(conditions.plan(served, LONGEST_LOAD_S, rate=rate))
        done = sum(_swapped(served, entry, n) for n in range(n_swaps))
        ended = load.finish(running, at_once=True)
        counted = served.route_codes() - before
    yield all_of("R21", "swaps taken, by pointer and by SIGHUP", done, n_swaps)
    yield none_of("R21", "calls not answered during the swaps", ended.sent - ended.ok, ended.sent)
    yield none_of("R21", "replies whose p_match is not that of their version", _mixed_up(entry, ended), ended.ok)
    yield at_most("R21", "p99 during the swaps, ms", ended.percentile_ms(99), 2 * conditions.steady_limit_ms, ended.ok)
    yield ledger("R21", Counter(ended.codes), counted)


def _swapped(served: Service, entry: Path, n: int) -> bool:
    """Point to the other version, every second time with SIGHUP; whether it came to serve."""
    version = "21"[n % 2]
    point_to(entry, version)
    if n % 2:
        served.server.process.send_signal(signal.SIGHUP)
    return _within(lambda: _served_by(served.address) == f"tiny/{version}")


def _served_by(address: str) -> str:
    """Return the bundle that a service says it has; not by `Route`, whose calls are counted here."""
    with grpc.insecure_channel(address) as channel:
        describe = channel.unary_unary(DESCRIBE_MODEL_METHOD, response_deserializer=pb.DescribeModelResponse.FromString)
        return describe(b"", timeout=5).bundle


def _within(is_so: Callable[[], bool], timeout_s: float = LONGEST_SWAP_S) -> bool:
    give_up_at = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.05)
    return True


def _mixed_up(entry: Path, done: load.Load) -> int:
    """Count the replies whose p_match is not what their bundle gives in process."""
    alone = {}
    for version in "12":
        bundle = load_bundle(entry / version)
        threshold = bundle.manifest.policy("").threshold
        for n, text in enumerate(mixed_texts()):
            p_match = bundle.model.predict(prompt_from_text(text), threshold, early_exit=False).p_match
            alone[bundle.manifest.bundle_id, str(n)] = p_match
    wrong = 0
    for reply, count in done.bundles.items():
        bundle_id, text, p_match = reply.split(" ")
        wrong += count * (abs(alone[bundle_id, text] - float(p_match)) > 1e-9)
    return wrong


def bad_swaps(conditions: Conditions) -> Iterator[Line]:
    """R22: one bad bundle after the other is made current, to a service of two workers under load."""
    entry = _entry(conditions.scratch / "r22")
    ruins = list(itertools.islice(itertools.cycle((HOSTILE | DAMAGES).values()), conditions.sized(fast=33, full=50)))
    for n, ruin in enumerate(ruins):
        ruin(tiny_bundle(entry / f"bad{n}", version=f"bad{n}", bias=1.0))
    with service(entry, conditions.scratch, workers=2) as served:
        load.drive(conditions.plan(served, 2))
        rss_mib = served.peak_rss_mib()
        running = load.start(conditions.plan(served, LONGEST_LOAD_S, rate=0.3 * conditions.calibration.rate))
        with health_probe(served.address) as probe:
            refused = sum(_refused(served, entry, f"bad{n}") for n in range(len(ruins)))
            ended = load.finish(running, at_once=True)
        grown_mib = served.peak_rss_mib() - rss_mib
    yield all_of("R22", "bad bundles refused by both workers", refused, len(ruins))
    yield none_of("R22", "calls not answered meanwhile", ended.sent - ended.ok, ended.sent)
    others = sum(count for reply, count in ended.bundles.items() if not reply.startswith("tiny/1 "))
    yield none_of("R22", "replies of another bundle than the old one", others, ended.ok)
    yield none_of("R22", "health answers that were not SERVING", probe.wrong, len(probe.took_ms))
    yield at_most("R22", "peak memory of a worker above that before, MiB", grown_mib, 64, len(ruins))


def _refused(served: Service, entry: Path, version: str) -> bool:
    """Point to a bad version and ask for a reload; whether both workers said that they refuse it."""
    point_to(entry, version)
    served.server.process.send_signal(signal.SIGHUP)
    said = re.compile(rf"\[(\d+)\].*reload refused.*{version}\b")
    return _within(lambda: len(set(said.findall(served.server.log.read_text()))) == 2)
