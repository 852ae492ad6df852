"""R26 to R32: what real use broke: who is spoken with, the ledger, silent peers, hung workers, what is not text.

The helpers are those of the tests; here they run on the bundle that ships, more often, and leave figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.builders import tiny_bundle
from tests.faults import test_collector_down as collectors
from tests.faults import test_hung_workers as hung
from tests.faults import test_ledger as ledgers
from tests.hanging import STOPPED, WAYS, hang, hanging_workers
from tests.relays import Relay, relay
from tests.running import route, serve_command, server_process
from tests.scorecard.conditions import Conditions
from tests.scorecard.lines import Line, all_of, at_most, none_of, reported
from tests.scorecard.service import service
from tests.serving.gateways.test_http_connections import HALF_HEAD, callers, statuses
from tests.serving.test_content_kinds import DOORS, READABLE, answers, unreadable
from tests.strace import TURNOUT, running_for, traced
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.client import AsyncRouter

LONG_S = 60.0
BACK_S = 15.0
"""By when a client is to have left a silent connection, and a hung worker to be replaced."""


def nothing_leaves(conditions: Conditions) -> Iterator[Line]:
    """R26: `serve` and `route --server` under strace: no address but loopback's, no file of a vendor."""
    seconds = conditions.sized(fast=5.0, full=60.0)
    run = traced(conditions.scratch / "r26-serve")
    command = run.command(*serve_command(conditions.folder, workers=2))
    with subprocess.Popen(
        command, env=run.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().rsplit(" ", 1)[-1].strip()
            asking = traced(conditions.scratch / "r26-route")
            asked = asking.command(*TURNOUT, "route", "hello", "--server", address)
            subprocess.run(asked, env=asking.environment(), capture_output=True, check=False)
            calls = sum(bool(route(address, LONG_S, text="hello").model) for _ in running_for(process, seconds))
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(LONG_S)
    port = int(address.rpartition(":")[2])
    elsewhere = {of for _, of in asking.endpoints()} - {port}
    yield none_of(
        "R26", "addresses of other machines, of serve and route", len(run.addresses() | asking.addresses()), calls
    )
    yield none_of("R26", "ports that route spoke with beside the server's", len(elsewhere), len(asking.endpoints()))
    yield none_of("R26", "files left at home or among temporary ones", len(run.strangers() | asking.strangers()), calls)


def true_ledger(conditions: Conditions) -> Iterator[Line]:
    """R27: written + dropped = decisions, and written = records on the disk, whatever the disk does."""
    runs = conditions.sized(fast=2, full=20)
    bundle = tiny_bundle(conditions.scratch / "r27-bundle")
    kinds: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
        "a full disk of 2 MB": lambda at, _: ledgers.test_a_full_disk_drops_what_does_not_fit_and_counts_it(
            bundle, at, 2, 0
        ),
        "a disk that hangs in fdatasync": lambda at, patch: (
            ledgers.test_a_disk_that_hangs_writes_nothing_and_the_end_comes_within_the_grace(bundle, at, patch, 2, 0)
        ),
        "SIGTERM": lambda at, _: ledgers.test_told_to_stop_a_server_has_written_all_that_it_decided(bundle, at, 0),
        "SIGKILL": lambda at, _: ledgers.test_killed_the_file_holds_all_that_was_counted(bundle, at, 0),
    }
    for kind, (name, once) in enumerate(kinds.items()):
        true = 0
        for n in range(runs):
            at = conditions.scratch / f"r27-{kind}-{n}"
            at.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                true += _passes(lambda once=once, at=at, patch=patch: once(at, patch))
        yield all_of("R27", f"runs in which all counts are equal: {name}", true, runs)


def _passes(check: Callable[[], object]) -> bool:
    try:
        check()
    except AssertionError as error:
        print(f"     {str(error).splitlines()[0] if str(error) else 'an assertion failed'}", flush=True)
        return False
    return True


def starved_port(conditions: Conditions) -> Iterator[Line]:
    """R28: 530 HTTP connections that say half a head, or nothing: health and decisions go on."""
    rounds = conditions.sized(fast=3, full=20)

    async def answered(address: str, sent: bytes) -> int:
        async with callers(address, 530, sent):
            told = [await statuses(address) for _ in range(rounds)]
        return sum(status == 200 for statuses_ in told for status in statuses_)

    with service(conditions.folder, conditions.scratch, "--http", "127.0.0.1:0") as served:
        said = served.server.log.read_text()
        address = said.split("http on ")[1].split()[0].removeprefix("http://")
        for name, sent in (("half a head", HALF_HEAD), ("nothing", b"")):
            good = asyncio.run(answered(address, sent))
            yield all_of("R28", f"answers beside 530 connections that say {name}", good, 3 * rounds)


def silent_relay(conditions: Conditions) -> Iterator[Line]:
    """R29: a connection goes silent without a word; the shipped client is back, or elsewhere, within seconds."""
    rounds = conditions.sized(fast=1, full=5)
    for name, n_replicas in (("its own server", 1), ("the other replica", 2)):
        back_s, fell, asked = [], 0, 0
        for _ in range(rounds):
            one_back_s, one_fell, one_asked = asyncio.run(_through_silence(conditions, n_replicas))
            back_s.append(one_back_s)
            fell, asked = fell + one_fell, asked + one_asked
        yield at_most("R29", f"seconds until the last fallback, back at {name}", max(back_s), BACK_S, rounds)
        yield reported("R29", "share of fallbacks in those seconds", fell / max(1, asked), asked)


async def _through_silence(conditions: Conditions, n_replicas: int) -> tuple[float, int, int]:
    """Return when the last fallback was, counted from the silence, fallbacks until then, and calls until then."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(service(conditions.folder, conditions.scratch)) for _ in range(n_replicas)]
        between: Relay = stack.enter_context(relay(servers[0].address))
        target = "ipv4:" + ",".join([between.address, *(one.address for one in servers[1:])])
        async with AsyncRouter(target, timeout_s=0.5) as router:
            for _ in range(40):
                await router.route(text="The ferry leaves at noon.")
            between.fall_silent(for_new_ones=n_replicas > 1)
            began_s, n_asked, last, upto = time.monotonic(), 0, (0.0, 0), 0
            while time.monotonic() - began_s < 25:
                reply = await router.route(text="The ferry leaves at noon.")
                n_asked += 1
                if reply.fallback_reason is not None:
                    last, upto = (time.monotonic() - began_s, last[1] + 1), n_asked
                await asyncio.sleep(0.05)
    return last[0], last[1], upto


def hung_workers(conditions: Conditions) -> Iterator[Line]:
    """R30: a worker that hangs is gone and replaced within seconds; starved ones are let be."""
    ways = conditions.sized(fast=(STOPPED, WAYS[1]), full=(STOPPED, *WAYS))
    took_s, replaced = [], 0
    with pytest.MonkeyPatch.context() as patch:
        hanging_workers(conditions.scratch, patch)
        for how in ways:
            with service(conditions.folder, conditions.scratch, workers=2) as served:
                first, *_ = served.pids()[1:]
                hang(first, how)
                began_s = time.monotonic()
                hung.eventually(lambda pid=first: not hung.is_running(pid), LONG_S)
                took_s.append(time.monotonic() - began_s)
                hung.eventually(lambda url=served.metrics_url: hung.ends(url, "hung") == 1, LONG_S)
                replaced += hung.eventually(
                    lambda served=served, pid=first: _has_two_others(served.pids()[1:], pid), LONG_S
                )
    yield at_most("R30", "seconds until a hung worker is out of the port", max(took_s), BACK_S, len(ways))
    yield all_of("R30", "hung workers replaced and counted", replaced, len(ways))
    core = max(os.sched_getaffinity(0))
    with service(conditions.folder, conditions.scratch, workers=2) as served, hung.busy_loops(core, 2):
        before = served.pids()
        for pid in before[1:]:
            hung.starve(pid, core)
        time.sleep(conditions.sized(fast=20.0, full=120.0))
        yield all_of("R30", "starved workers let be", len(set(before[1:]) & set(served.pids())), 2)


def _has_two_others(pids: list[int], gone: int) -> bool:
    return len(pids) == 2 and gone not in pids


def unreadable_content(conditions: Conditions) -> Iterator[Line]:
    """R31: what no model of ours can read never goes weak by its caption, at any door and in any shape."""
    bundle = load_bundle(tiny_bundle(conditions.scratch / "r31-bundle"))
    bodies, strong, read, asked = dict(unreadable()), 0, 0, 0
    for door in DOORS:
        found = answers(bundle, door, bodies)
        strong += sum(got[1] == "RULE" and got[0] == bundle.manifest.pair.strong for got in found.values())
        read += sum(got[1] == "MODEL" for got in answers(bundle, door, READABLE).values())
        asked += len(found)
    yield all_of("R31", "requests with what is not text that went strong by rule", strong, asked)
    yield all_of("R31", "requests of text, in any shape, that the model decided", read, len(READABLE) * len(DOORS))


def hanging_collector(conditions: Conditions) -> Iterator[Line]:
    """R32: a collector that hangs, refuses or fails holds no end up, and no caller waits in vain."""
    runs = conditions.sized(fast=1, full=5)
    late_s, wrong, calls = 0.0, 0, 0
    good = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    for collector in (collectors.hanging, collectors.refusing, collectors.overloaded):
        for n in range(runs):
            log = conditions.scratch / f"r32-{collector.__name__}-{n}.log"
            with collector() as port, pytest.MonkeyPatch.context() as patch:
                patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
                options = ("--grace-s", collectors.GRACE_S)
                with server_process(conditions.folder, log, *options, lame_duck_s=collectors.LAME_DUCK_S) as server:
                    codes, took_s = asyncio.run(collectors.call_until_ended(server.address, server.process))
            late_s = max(late_s, took_s)
            calls += codes.total()
            wrong += sum(count for code, count in codes.items() if code not in good)
    limit_s = collectors.LAME_DUCK_S + collectors.GRACE_S + collectors.SLACK_S
    yield at_most("R32", "longest end with such a collector, s", late_s, limit_s, 3 * runs)
    yield none_of("R32", "callers left without an answer meanwhile", wrong, calls)
