"""What one decision costs of CPU in service, all but gRPC: from the bytes of a request to its answer.

    python -m tests.bench.deciding                     # a ladder of 2 (the pair of its ends), 3, 4 and 5 rungs
    python -m tests.bench.deciding --before FOLDER     # the shipped pair, here and in another checkout of ours

Each is a process of its own, and they take turns. Two processes of one program differ by a quarter, by where their
memory lies: so all of them start anew in every round, and the ratios of each round are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("alone", "of a batch")
N_TEXTS = 100
WORDS = (
    "the ferry leaves the northern pier at noon and seven red lamps light every quiet street of our old town because "
    "nobody must wait only a Tuesday traveller would notice how unhurriedly bargemen unload crates worth 1,250 euros"
)


def main() -> None:
    """Measure and print, or, with `--worker`, be one of those measured."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=6)
    arguments.add_argument("--turns", type=int, default=12)
    arguments.add_argument("--before", type=Path)
    arguments.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker is not None:
        work(given.worker)
        return
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        asked = ladders(Path(folder)) if given.before is None else checkouts(given.before)
        for _ in range(given.rounds):
            for key, cpu_us in one_round(asked, given.turns).items():
                found[key].append(cpu_us)
    first = next(iter(asked))
    for kind in KINDS:
        for name in asked:
            all_of = found[kind, name]
            more = [one - other for one, other in zip(all_of, found[kind, first], strict=True)]
            ratios = [one / other for one, other in zip(all_of, found[kind, first], strict=True)]
            print(
                f"{kind:11} {name:10} {statistics.median(all_of):6.1f} CPU-us, "
                f"{statistics.median(more):+6.1f} ({min(more):+.1f} to {max(more):+.1f}), "
                f"{statistics.median(ratios):.3f} of {first} ({min(ratios):.2f} to {max(ratios):.2f})"
            )


def ladders(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return checkout and bundle of each: the shipped ladder with 0 to 3 rungs between."""
    from tests.ladders import ladder_of

    entry = ROOT / "models" / "gpt-4o-mini_gpt-4o_o3"
    source = entry / (entry / "CURRENT").read_text().strip()
    return {f"{n + 2} rungs": (ROOT, ladder_of(source, folder / f"ladder-{n}", n)) for n in range(4)}


def checkouts(before: Path) -> dict[str, tuple[Path, Path]]:
    """Return checkout and bundle of each: the same bundle in both."""
    entry = ROOT / "models" / "gpt-4o_gpt-4o-mini"
    bundle = entry / (entry / "CURRENT").read_text().strip()
    return {"before": (before, bundle), "now": (ROOT, bundle)}


def one_round(asked: dict[str, tuple[Path, Path]], turns: int) -> dict[tuple[str, str], float]:
    """Start all, let them take turns, end them; return median CPU microseconds a decision."""
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(worker(*where)) for name, where in asked.items()}
        for _ in range(turns):
            for name in random.sample(list(workers), len(workers)):
                for kind in KINDS:
                    spent[kind, name].append(told(workers[name], kind))
    return {key: statistics.median(all_of) for key, all_of in spent.items()}


@contextlib.contextmanager
def worker(root: Path, bundle: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that decides with the code of a checkout; end it with the block."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(bundle)]
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / '.imports'}"}
    with subprocess.Popen(command, cwd=root, stdin=-1, stdout=-1, text=True, env=environment) as process:
        try:
            told(process, KINDS[0]), told(process, KINDS[1])  # warm
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str], kind: str) -> float:
    """Ask a worker for one turn."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(kind + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def work(folder: Path) -> None:
    """Decide on texts that the first stage answers, as often as a line comes in; print CPU microseconds a decision."""
    from turnout.serving.bundles.bundle import load_bundle
    from turnout.serving.pb import router_pb2 as pb
    from turnout.serving.router.prompt import Prompt
    from turnout.serving.service.answering import Answering
    from turnout.serving.service.lifecycle import Lifecycle
    from turnout.serving.settings import ServerSettings, Sources

    bundle = load_bundle(folder, native=True)
    assert bundle.fast_head is not None
    chance, texts, threshold = random.Random(2), list[str](), bundle.manifest.policy("").threshold
    while len(texts) < N_TEXTS:
        text = " ".join(chance.choices(WORDS.split(), k=chance.randrange(10, 100)))
        if bundle.fast_head.predict_features(bundle.model.featurize(Prompt(text)), threshold) is not None:
            texts.append(text)
    raw = [pb.RouteRequest(text=text).SerializeToString() for text in texts]
    lifecycle = Lifecycle(Sources(bundles=(folder,), cache_items=0))
    answering = Answering(lifecycle, ServerSettings(listen="127.0.0.1:0"))

    async def alone() -> None:
        for one in raw:
            await answering.answer(one, None)

    async def of_a_batch() -> None:
        await answering.results(raw, None)

    loop = asyncio.new_event_loop()
    for line in sys.stdin:
        began_ns = time.process_time_ns()
        for _ in range(3):
            loop.run_until_complete(alone() if line.strip() == KINDS[0] else of_a_batch())
        print((time.process_time_ns() - began_ns) / 3 / N_TEXTS / 1e3, flush=True)


if __name__ == "__main__":
    main()
