"""The fast head in C beside the Python path: parity on real prompts and on strings made by chance, and CPU time.

    python -m tests.bench.native parity FILE...   # columns `prompt` of Parquet files, whole files
    python -m tests.bench.native fuzz 100000      # `make fuzz-native` does it with sanitizers
    python -m tests.bench.native time
    python -m tests.bench.native serve            # CPU of two servers, with and without it, called in turns

Parity: whether the first stage answers, the route, what is out of distribution, the features to the last bit, and the
largest difference of p_match; each text at the thresholds of six of the bundle's policies, drawn anew. Of a ladder
(`--bundle`) also p of the rungs between, and the rung under each of those policies. Time: CPU of this thread, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import nan
from pathlib import Path

import grpc
import numpy as np
import psutil

from tests.native_builds import use_extension
from tests.running import server_process
from tests.strange_texts import strange_texts
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.decision.decision import exit_thresholds
from turnout.serving.decision.rungs import is_at_a_threshold
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.features import Features
from turnout.serving.router.native.agreement import PARITY, most_off
from turnout.serving.router.prompt import Prompt, clean_text
from turnout.serving.wire.route import SERVICE_NAME

WORDS = (
    "the ferry leaves the northern pier at noon and seven red lamps light every quiet street of our old town because "
    "nobody must wait only a Tuesday traveller would notice how unhurriedly bargemen unload crates worth 1,250 euros"
)


@dataclass
class Told:
    """What a comparison found."""

    n: int = 0
    n_read: int = 0
    n_answers: int = 0
    n_differ: int = 0
    largest: float = 0.0
    largest_rung: float = 0.0

    def __str__(self) -> str:
        share = self.n_read / max(1, self.n)
        return (
            f"{self.n:7,} texts, {share:6.1%} read in C, {self.n_answers:9,} answers, {self.n_differ} differ, "
            f"p_match off by at most {self.largest:.1e}, p of a rung by {self.largest_rung:.1e}"
        )


def main() -> int:
    """Compare or measure; exit code 1 where anything differs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", choices=("parity", "fuzz", "time", "serve"))
    arguments.add_argument("given", nargs="*")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--extension", type=Path, help="another build of it, such as one with sanitizers")
    options = arguments.parse_args()
    if options.extension is not None:
        use_extension(options.extension)
    bundle = load_bundle(find_bundle(options.bundle), native=True)
    if bundle.fast_head is None or bundle.fast_head.native is None:
        print(f"no head in C: {'no first stage' if bundle.fast_head is None else bundle.fast_head.path}")
        return 1
    if options.what in ("time", "serve"):
        (times if options.what == "time" else serve)(bundle)
        return 0
    if options.what == "fuzz":
        chance = random.Random(options.seed)
        told = {"fuzz": compare(bundle, itertools.islice(strange_texts(chance), int(options.given[0])), chance)}
    else:
        told = {path: compare(bundle, prompts_of(Path(path)), random.Random(options.seed)) for path in options.given}
    for name, one in told.items():
        print(f"{Path(name).name:32s} {one}")
    return int(any(one.n_differ or max(one.largest, one.largest_rung) > PARITY for one in told.values()))


def prompts_of(path: Path) -> Iterator[str]:
    """Yield each prompt of a Parquet file once."""
    import pyarrow.parquet as pq

    yield from dict.fromkeys(text for text in pq.read_table(path, columns=["prompt"])["prompt"].to_pylist() if text)


def compare(bundle: Bundle, texts: Iterable[str], chance: random.Random) -> Told:
    """Ask both paths about each text, at the thresholds of some policies."""
    head, told, policies = bundle.fast_head, Told(), thresholds_of(bundle)
    assert head is not None
    assert head.native is not None
    assert bundle.rung_heads is None or bundle.rung_heads.is_native, bundle.rung_heads.path
    for text in texts:
        told.n += 1
        facts = {
            "turns": chance.choice((1, 1, 3)),
            "tools": chance.choice((0, 0, 2)),
            "images": chance.choice((0, 0, 1)),
        }
        prompt = Prompt(clean_text(text), **facts, wants_json=chance.random() < 0.1)
        found = head.native.look(prompt, 0.5, wants_features=True)
        if found is None:
            continue
        told.n_read += 1
        features = bundle.model.featurize(prompt)
        whole = head.first_stage(features, 0.5)
        p_rungs = () if bundle.rung_heads is None else bundle.rung_heads.p_rungs(features)
        told.n_differ += not same(found.features, features)
        told.largest = max(told.largest, abs(found.p_match - whole.p_match))
        told.largest_rung = max(told.largest_rung, most_off(found.p_rungs, p_rungs))
        for (threshold, also), t_rungs in chance.sample(policies, min(6, len(policies))):
            told.n_answers += 1
            looked = head.look(prompt, threshold, also, wants_features=False)
            native = looked and looked.prediction
            python = head.predict_features(features, threshold)
            if python is not None and also is not None:
                python = head.predict_features(features, also)
            if looked is None or not (
                is_at_a_threshold(looked.p_rungs, t_rungs)  # where the graph is asked
                or rungs_reached(looked.p_rungs, t_rungs) == rungs_reached(p_rungs, t_rungs)
            ):
                told.n_differ += 1
            if native is None or python is None:
                told.n_differ += native is not python
                continue
            differs = native.goes_weak(threshold) is not python.goes_weak(threshold)
            differs |= native.is_out_of_distribution is not python.is_out_of_distribution
            if also is not None:
                differs |= native.goes_weak(also) is not python.goes_weak(also)
            told.n_differ += differs
    return told


def thresholds_of(bundle: Bundle) -> list[tuple[tuple[float, float | None], tuple[float, ...]]]:
    """Return where the first stage is asked under each policy, with and without a second look, and what rungs need."""
    found = [
        (exit_thresholds(policy, checked), (checked or policy).t_rungs or ())
        for policy in bundle.manifest.policies
        for checked in {None, policy.checked}
    ]
    return list(dict.fromkeys(found))


def rungs_reached(p_rungs: Iterable[float], t_rungs: Iterable[float]) -> list[bool]:
    """Return which rungs between a policy allows; none of what it says nothing of."""
    return [p >= threshold for p, threshold in zip(p_rungs, t_rungs, strict=False)]


def same(one: Features | None, other: Features) -> bool:
    """Whether features are the same to the last bit."""
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Features.__slots__)


def times(bundle: Bundle) -> None:
    """Print CPU microseconds of the first stage by each path, in turns."""
    head, native = bundle.fast_head, bundle.fast_head and bundle.fast_head.native
    assert head is not None
    assert native is not None
    chance = random.Random(1)
    for n_words in (20, 100, 500):
        prompt = Prompt(" ".join(chance.choices(WORDS.split(), k=n_words)))
        seconds = in_turns(
            {
                "Python": lambda p=prompt: head.predict_features(bundle.model.featurize(p), 0.9),
                "native": lambda p=prompt: native.look(p, 0.9),
                "its C": lambda given=(prompt.text, -1, 1, 0, False, 0, 0.9, nan, False): native._head.look(*given),
            }
        )
        told = ", ".join(f"{name} {1e6 * value:6.1f}" for name, value in seconds.items())
        print(f"{n_words:4d} words: {told} us CPU, {seconds['Python'] / seconds['native']:.1f} times")


def serve(bundle: Bundle) -> None:
    """Print the server's CPU microseconds a request: lone `Route`, and an item of a `RouteBatch` of 100."""
    texts = fast_texts(bundle, 100)
    batch = pb.RouteBatchRequest(requests=[pb.RouteRequest(text=text) for text in texts]).SerializeToString()
    lone = [item.SerializeToString() for item in pb.RouteBatchRequest.FromString(batch).requests]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        jobs: dict[str, dict[str, Callable[[], object]]] = {"Route": {}, "RouteBatch": {}}
        for name, option in (("Python", "--no-native-head"), ("native", "--native-head")):
            server = stack.enter_context(server_process(bundle.folder, folder / name, option))
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            route, route_batch = (channel.unary_unary(f"/{SERVICE_NAME}/{method}") for method in jobs)
            process = psutil.Process(server.process.pid)
            jobs["Route"][name] = lambda route=route, process=process: cpu_of(process, route, lone)
            jobs["RouteBatch"][name] = lambda call=route_batch, process=process: cpu_of(process, call, [batch] * 5)
        for method, by_path in jobs.items():
            found = {name: [job() for _ in range(3)][-1:] for name, job in by_path.items()}  # warm
            for _ in range(20):
                for name, job in by_path.items():
                    found[name].append(job())
            n = len(lone) if method == "Route" else 5 * len(texts)
            seconds = {name: sum(values[1:]) / 20 / n for name, values in found.items()}
            told = ", ".join(f"{name} {1e6 * value:6.1f}" for name, value in seconds.items())
            print(f"{method}: {told} us CPU of the server, {seconds['native'] / seconds['Python']:.2f}")


def fast_texts(bundle: Bundle, n: int) -> list[str]:
    """Return texts of 10 to 100 words that the first stage answers under the default policy."""
    chance, found, threshold = random.Random(2), list[str](), bundle.manifest.policy("").threshold
    while len(found) < n:
        text = " ".join(chance.choices(WORDS.split(), k=chance.randrange(10, 100)))
        features = bundle.model.featurize(Prompt(text))
        if bundle.fast_head is not None and bundle.fast_head.predict_features(features, threshold) is not None:
            found.append(text)
    return found


def cpu_of(process: psutil.Process, call: Callable[..., object], requests: Iterable[bytes]) -> float:
    """Return the CPU seconds that a process takes for some calls."""
    before = process.cpu_times()
    for request in requests:
        call(request, timeout=60)
    after = process.cpu_times()
    return after.user + after.system - before.user - before.system


def in_turns(jobs: dict[str, Callable[[], object]], rounds: int = 15, repeats: int = 100) -> dict[str, float]:
    """Return the median CPU seconds of each job."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start_ns = time.thread_time_ns()
            for _ in range(repeats):
                job()
            found[name].append((time.thread_time_ns() - start_ns) / repeats / 1e9)
    return {name: float(np.median(values)) for name, values in found.items()}


if __name__ == "__main__":
    sys.exit(main())
