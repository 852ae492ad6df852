"""Turnout beside other servers in one run: what the first stage answers, the mix, 1 and 8 callers, shares of capacity.

    python -m tests.bench.serving.beside [--rounds 2] [--scale 1] [--only NAME ...] [--json FILE]

`make bench-peers` makes the peers' environments; a peer without one is left out and named. Every server starts anew in
each round, and every other round goes in reverse order. Capacity is what eight callers get of that server on the mix;
at shares of it calls are sent when they are due, and a latency counts from then. Beside other load only the CPU
seconds of servers mean something, and ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.bench.serving import variants as known
from tests.bench.serving.load import CALL_TIMEOUT_S, Session, drive
from tests.bench.serving.processes import UPSTREAM, NotMeasured, Running, running
from tests.bench.serving.prompts import mixed
from tests.bench.serving.variants import Variant
from tests.scorecard.load import Load, Plan, percentile
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.router.model import Stage
from turnout.serving.router.prompt import prompt_from_text

CHOSEN = (
    *(known.ECHO, known.OURS, known.MLSERVER, known.MLSERVER_INLINE, known.FASTAPI, known.LITELLM_PROXY),
    *(known.IN_PROCESS, known.LITELLM),
)
CALLERS = (1, 8)
SHARES = (0.3, 0.6, 0.9)
MIX_PROMPTS = 1000
SECONDS = 2.0
"""Of each load, times `--scale`; a fifth of it before, to warm up."""
OURS = known.OURS.name


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one load gave.

    Attributes:
        calls_per_s: answered.
        cpu_us: of the server, a call, its children included.
        p50_ms, p99_ms: from when a call was meant to be sent.
        failed: calls without an answer.
    """

    calls_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    failed: int = 0


Round = dict[str, dict[str, Told]]
"""By variant, then by load."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [one.name for one in CHOSEN]
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    name, mix = mixed(MIX_PROMPTS, seed=0)
    texts = {"fast": fast_of(mix), "mix": mix}
    rounds, skipped = measure([one for one in CHOSEN if one.name in given.only], texts, given.rounds, given.scale)
    print(f"{name}; {len(texts['fast'])} of them the first stage answers. One worker, no cache.")
    print("\n".join(table(rounds)))
    for one, why in skipped.items():
        print(f"left out: {one}: {why}")
    if given.json:
        given.json.write_bytes(msgspec.json.encode(rounds))


def fast_of(texts: list[str]) -> list[str]:
    """Return the prompts that the first stage answers under the default policy."""
    bundle = load_bundle(find_bundle())
    threshold = bundle.manifest.policy("").threshold
    return [text for text in texts if bundle.model.predict(prompt_from_text(text), threshold).stage is Stage.FAST]


def measure(
    chosen: list[Variant], texts: dict[str, list[str]], n_rounds: int, scale: float
) -> tuple[list[Round], dict[str, str]]:
    """Give every variant its turn in each round; what is left out comes with why."""
    skipped = {one.name: f"no .venv-bench-{one.peer}; make bench-peers makes it" for one in chosen if not one.is_there}
    rounds: list[Round] = []
    with running(UPSTREAM) as upstream:
        for index in range(n_rounds):
            found: Round = {}
            for one in chosen if index % 2 == 0 else chosen[::-1]:
                if one.name in skipped:
                    continue
                print(f"round {index + 1} of {n_rounds}: {one.what}", file=sys.stderr)
                try:
                    with running(one, f"http://{upstream.target}/v1") as alive:
                        told = _in_process if one.protocol is None else _served
                        found[one.name] = dict(told(one, alive, texts, scale * SECONDS))
                except NotMeasured as error:
                    skipped[one.name] = str(error)
            rounds.append(found)
    return rounds, skipped


def _served(one: Variant, alive: Running, texts: dict[str, list[str]], seconds: float) -> Iterator[tuple[str, Told]]:
    def told(which: str, **options: float) -> Told:
        plan = Plan(targets=[alive.target], texts=texts[which], seconds=seconds, timeout_s=CALL_TIMEOUT_S, **options)
        drive(Session(one.protocol or "", [msgspec.structs.replace(plan, seconds=0.2 * seconds)]))
        before_s = alive.cpu_s()
        (load,) = drive(Session(one.protocol or "", [plan]))
        return _told(load, alive.cpu_s() - before_s, one)

    capacity = 0.0
    for which in texts:
        for callers in CALLERS:
            found = told(which, callers=callers, channels=callers)
            capacity = found.calls_per_s
            yield f"{which}, {callers} at once", found
    for share in SHARES:
        yield f"mix, {share} of capacity", told("mix", rate=share * capacity)


def _told(load: Load, cpu_s: float, one: Variant) -> Told:
    if not load.ok:
        raise NotMeasured(f"{one.name}: no call was answered: {load.codes}")
    return Told(
        calls_per_s=load.ok / load.wall_s,
        cpu_us=1e6 * cpu_s / load.ok,
        p50_ms=load.percentile_ms(50),
        p99_ms=load.percentile_ms(99),
        failed=load.sent - load.ok,
    )


def _in_process(_: Variant, alive: Running, texts: dict[str, list[str]], seconds: float) -> Iterator[tuple[str, Told]]:
    for which, some in texts.items():
        for for_s in (0.2 * seconds, seconds):
            print(json.dumps({"texts": some, "seconds": for_s}), file=alive.process.stdin, flush=True)
            found = json.loads(alive.process.stdout.readline() if alive.process.stdout else "{}")
        took_ms = found["latency_ms"]
        yield (
            f"{which}, 1 at once",
            Told(
                calls_per_s=len(took_ms) / found["wall_s"],
                cpu_us=1e6 * found["cpu_s"] / len(took_ms),
                p50_ms=percentile(took_ms, 50),
                p99_ms=percentile(took_ms, 99),
            ),
        )


def table(rounds: list[Round]) -> Iterator[str]:
    """Yield a line for each load of each variant: medians over the rounds, and ours over it within a round."""
    head = ("p50 ms", "p99 ms", "calls/s", "CPU us", "failed", "calls/s, ours", "CPU, its over ours")
    yield f"{'':16} {'':20} " + " ".join(f"{one:>8}" for one in head)
    for name in dict.fromkeys(name for found in rounds for name in found):
        for load in dict.fromkeys(load for found in rounds for load in found.get(name, ())):
            told = [found[name][load] for found in rounds if load in found.get(name, ())]
            both = [(found[name][load], found.get(OURS, {}).get(load)) for found in rounds if name in found]
            rates = [ours.calls_per_s / one.calls_per_s for one, ours in both if ours]
            cpus = [one.cpu_us / ours.cpu_us for one, ours in both if ours and ours.cpu_us]
            figures = (
                *(statistics.median(getattr(one, field) for one in told) for field in ("p50_ms", "p99_ms")),
                *(statistics.median(getattr(one, field) for one in told) for field in ("calls_per_s", "cpu_us")),
            )
            ratios = " ".join(f"{statistics.median(one):8.2f}" if one else f"{'':8}" for one in (rates, cpus))
            line = f"{figures[0]:8.2f} {figures[1]:8.2f} {figures[2]:8.0f} {figures[3]:8.0f}"
            yield f"{name:16} {load:20} {line} {sum(one.failed for one in told):8d} {ratios}"


if __name__ == "__main__":
    main()
