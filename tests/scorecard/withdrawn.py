"""R7 to R9: deadlines that pass and callers that leave. They free their place, and harm nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc

from tests import scenarios
from tests.builders import tiny_bundle
from tests.scorecard.conditions import Conditions
from tests.scorecard.lines import Line, all_of, none_of, reported
from turnout.serving.bundles.bundle import Bundle, load_bundle


def _tiny(scratch: Path) -> Bundle:
    return load_bundle(tiny_bundle(scratch / "tiny"))


def expired(conditions: Conditions) -> Iterator[Line]:
    """R7: 200 calls with 5 ms behind a blocker."""
    done = asyncio.run(scenarios.expired_behind_a_blocker(_tiny(conditions.scratch), 200))
    too_late = done.codes[grpc.StatusCode.DEADLINE_EXCEEDED] + done.codes[grpc.StatusCode.RESOURCE_EXHAUSTED]
    yield none_of("R7", "expired calls that reached the model", done.model_calls, 200)
    yield all_of("R7", "expired calls told so, or refused as sure to be late", too_late, 200)


def cancelled(conditions: Conditions) -> Iterator[Line]:
    """R8: half of the calls cancelled at random instants."""
    n_calls = conditions.sized(fast=1_000, full=5_000)
    done = asyncio.run(scenarios.half_cancelled(_tiny(conditions.scratch), n_calls, n_calls / 1_000))
    yield none_of("R8", "items in the queue 1 s after half were cancelled", done.items_left, n_calls)
    yield none_of("R8", "tenants that still hold a place", done.tenants_left, n_calls)
    yield none_of("R8", "calls that ended otherwise", n_calls - done.ends["ok"] - done.ends["cancelled"], n_calls)
    yield reported("R8", "of the calls, cancelled before their answer", done.ends["cancelled"], n_calls)


def harmed(conditions: Conditions) -> Iterator[Line]:
    """R9: every subset of four cancelled, before, while and after the model runs."""
    bundle = _tiny(conditions.scratch)
    done = [asyncio.run(scenarios.survivors(bundle, instant)) for instant in scenarios.INSTANTS]
    runs = sum(one.runs for one in done)
    yield none_of("R9", "survivors hung or with another answer than alone", sum(one.harmed for one in done), runs)
