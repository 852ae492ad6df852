"""What a request waits for others: the real mix by stage, 1 and 8 callers, and at shares of the capacity.

    python -m tests.bench.serving.lanes [--before FOLDER] [--rounds 3] [--seconds 10] [--json]

One worker without a cache; every call has a prompt of the mix. `--before` is another checkout with its `.venv`, whose
server takes turns with ours: times on shared machines vary twofold, ratios of one run hold. Capacity is what eight
callers get of the server before (ours without one); at shares of it calls are sent when they are due, whether or not
others have been answered, and a latency counts from then.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.bench.serving.prompts import mixed
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_METHOD

ROOT = Path(__file__).resolve().parents[3]
CALLERS = (1, 8)
SHARES = (0.3, 0.6, 0.9)
N_PROMPTS = 2000
TIMEOUT_S = 30.0
STAGES = {pb.STAGE_FAST: "FAST", pb.STAGE_FULL: "FULL"}

Latencies = dict[str, list[float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    roots = {"before": given.before} if given.before else {}
    name, texts = mixed(N_PROMPTS, seed=0)
    servers = {which: _serve(root) for which, root in (roots | {"now": ROOT}).items()}
    try:
        rows = asyncio.run(_measure({key: one[1] for key, one in servers.items()}, texts, given.rounds, given.seconds))
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait(30)
    if given.json:
        print(json.dumps(rows))
        return
    print(f"{name}; one worker, no cache; p50 / p99 in ms")
    for row in rows:
        print(f"{row['load']:>10} {row['server']:>7} {row['stage']} {row['n']:6d} {row['p50']:8.2f} {row['p99']:8.2f}")


def _serve(root: Path) -> tuple[subprocess.Popen[str], str]:
    command = [str(root / ".venv/bin/turnout"), "serve", "--listen", "127.0.0.1:0", "--workers", "1"]
    process = subprocess.Popen([*command, "--cache-items", "0"], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


async def _measure(addresses: dict[str, str], texts: list[str], rounds: int, seconds: float) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], Latencies] = defaultdict(lambda: defaultdict(list))
    rates: list[float] = []
    for number, (callers, _) in enumerate(itertools.product(CALLERS, range(rounds))):
        for server in _in_turns(addresses, number):
            before = _count(found[f"{callers} at once", server])
            await _closed(addresses[server], texts, callers, seconds, found[f"{callers} at once", server])
            if callers == max(CALLERS) and server == next(iter(addresses)):
                rates.append((_count(found[f"{callers} at once", server]) - before) / seconds)
    for number, (share, _) in enumerate(itertools.product(SHARES, range(rounds))):
        rate = share * statistics.median(rates)
        for server in _in_turns(addresses, number):
            load = found[f"{rate:.0f} / s ({share})", server]
            await _open(addresses[server], texts, rate, seconds, load)
    return [
        {"load": load, "server": server, "stage": stage, "n": len(took), "p50": _at(took, 0.5), "p99": _at(took, 0.99)}
        for (load, server), stages in found.items()
        for stage, took in sorted(stages.items())
    ]


def _in_turns(addresses: dict[str, str], number: int) -> list[str]:
    names = list(addresses)
    return names[::-1] if number % 2 else names


def _count(found: Latencies) -> int:
    return sum(map(len, found.values()))


def _at(took_ms: list[float], share: float) -> float:
    return round(float(np.quantile(took_ms, share)), 3)


def _stub(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(
        ROUTE_METHOD,
        request_serializer=pb.RouteRequest.SerializeToString,
        response_deserializer=pb.RouteResponse.FromString,
    )


async def _call(stub: Any, text: str, due_s: float, found: Latencies) -> None:
    try:
        reply = await stub(pb.RouteRequest(text=text), timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        found[error.code().name].append(1e3 * (time.perf_counter() - due_s))
        return
    found[STAGES.get(reply.stage, "RULE")].append(1e3 * (time.perf_counter() - due_s))


async def _closed(address: str, texts: list[str], callers: int, seconds: float, found: Latencies) -> None:
    """Let each caller send its next request when the one before is answered."""
    end_s = time.perf_counter() + seconds

    async def call_on(number: int) -> None:
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub, dice = _stub(channel), random.Random(number)
            while (now_s := time.perf_counter()) < end_s:
                await _call(stub, dice.choice(texts), now_s, found)

    await asyncio.gather(*map(call_on, range(callers)))


async def _open(address: str, texts: list[str], rate: float, seconds: float, found: Latencies) -> None:
    """Send requests at random times, as many a second as asked."""
    dice = random.Random(0)
    async with grpc.aio.insecure_channel(address) as channel:
        stub, calls = _stub(channel), []
        due_s = end_s = time.perf_counter()
        end_s += seconds
        while due_s < end_s:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            calls.append(asyncio.ensure_future(_call(stub, dice.choice(texts), due_s, found)))
            due_s += dice.expovariate(rate)
        await asyncio.gather(*calls)


if __name__ == "__main__":
    main()
