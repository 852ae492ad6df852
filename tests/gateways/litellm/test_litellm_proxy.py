"""The real LiteLLM proxy in front of Turnout, by configuration and by plug-in, as docs/gateways/index.md has it.

Its environment: `make test-litellm`. All tests look at one run, which takes about a minute.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.gateways.litellm.requests import WAYS, Request
from tests.gateways.litellm.run import DIRECT, N_REQUESTS, Called, Run, gather, lines_of
from tests.gateways.litellm.running import DEADLINE_MS, proxy_program
from tests.gateways.litellm.upstream import WORDS
from tests.running import environment
from turnout.serving.client import Router
from turnout.serving.decision.prices import cost_usd

pytestmark = [pytest.mark.bench, pytest.mark.timeout(500)]
STRONG, WEAK = "gpt-4o", "gpt-4o-mini"
SLOWEST_MS = DEADLINE_MS + 1500
"""Bound of a single call on a machine that others use as well; the median is held to the deadline."""


def models_of_route(address: str, asked: list[Request]) -> dict[str, str]:
    """Return the model that Route names for each request, from the body as its caller sent it."""
    with Router(address, timeout_s=60) as router:
        routed = {one.user: router.route(openai_body=msgspec.json.encode(one.shown)) for one in asked}
        assert not router.fallbacks
    return {user: one.model for user, one in routed.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    proxy_program()
    return gather(tmp_path_factory.mktemp("litellm"), models_of_route)


def logged(run: Run, calls: list[Called]) -> dict[str, dict[str, Any]]:
    """Return LiteLLM's log row of each call, by its mark.

    Some are missing: LiteLLM empties its queue after a batch was sent, of what came meanwhile as well.
    """
    rows = {row["end_user"]: row for row in lines_of(run.logs) if row["call_type"] == "acompletion"}
    found = {one.request.user: rows[one.request.user] for one in calls if one.request.user in rows}
    assert len(found) >= 0.85 * len(calls)
    return found


def test_every_request_is_answered_whole(run: Run):
    assert len(run.healthy) == N_REQUESTS
    assert {called.text.strip() for called in run.calls} == {" ".join(WORDS)}


def test_every_request_reaches_the_model_that_route_names(run: Run):
    reached = {one.request.user: run.upstream[one.request.user]["model"] for one in run.healthy}
    wrong = {user: model for user, model in reached.items() if model != run.expected[user]}
    assert wrong == {}
    for way in WAYS:
        models = Counter(reached[one.request.user] for one in run.healthy if one.request.way == way)
        assert min(models[WEAK], models[STRONG]) >= 10, (way, models)


def test_every_shape_was_among_the_requests(run: Run):
    bodies = [one.request.body for one in run.healthy]
    shapes = Counter(shape for body in bodies for shape in shapes_of(body))
    assert min(shapes[name] for name in ("plain", "multi-turn", "tools", "image", "stream", "json")) >= 15, shapes


def shapes_of(body: dict[str, Any]) -> set[str]:
    shapes = {name for name in ("tools", "stream") if body.get(name)}
    shapes |= {"json"} if "response_format" in body else set()
    shapes |= {"multi-turn"} if sum(message["role"] == "user" for message in body["messages"]) > 1 else set()
    shapes |= {"image"} if isinstance(body["messages"][-1]["content"], list) else set()
    return shapes or {"plain"}


@pytest.mark.parametrize("state", ["hung", "stopped", "refusing"])
def test_without_turnout_every_request_goes_strong_within_the_deadline(run: Run, state: str):
    calls: list[Called] = getattr(run, state)
    assert {run.upstream[one.request.user]["model"] for one in calls} == {STRONG}
    assert {one.request.way for one in calls} == set(WAYS)
    assert max(one.seconds for one in calls) * 1e3 < SLOWEST_MS
    for way in WAYS:
        own = statistics.median(one.seconds for one in calls if one.request.way == way) * 1e3
        assert own < run.p50_ms(DIRECT) + DEADLINE_MS + 50, (way, own)


def test_callers_are_told_nothing_of_the_faults_and_the_log_is(run: Run):
    # A hung server's connection is given up after some seconds; from then on it is unavailable at once.
    hung = {"deadline_exceeded", "unavailable"}
    for state, allowed in (("hung", hung), ("stopped", {"unavailable"}), ("refusing", {"unauthenticated"})):
        plugged = [one for one in getattr(run, state) if one.request.way != "routed"]
        reasons = Counter(decision(row)["fallback_reason"] for row in logged(run, plugged).values())
        assert set(reasons) <= allowed, (state, reasons)
        assert reasons.total() == len(plugged)


def decision(row: dict[str, Any]) -> dict[str, Any]:
    return row["metadata"]["spend_logs_metadata"]["turnout"]


def test_routing_goes_on_when_turnout_does(run: Run):
    reached = {one.request.user: run.upstream[one.request.user]["model"] for one in run.resumed}
    assert reached == {user: run.expected[user] for user in reached}


def test_decision_stands_in_the_log_without_the_prompt(run: Run):
    for user, row in logged(run, [one for one in run.healthy if one.request.way != "routed"]).items():
        kept = decision(row)
        assert kept["model"] == run.expected[user]
        assert set(kept) == {
            "request_id",
            "tenant",
            "session_id",
            "action",
            "tier",
            "model",
            "reason",
            "p_match",
            "threshold",
            "policy",
            "bundle",
            "latency_ms",
            "fallback_reason",
        }


def test_turnout_label_reads_the_log_without_a_column_map(run: Run, tmp_path: Path):
    out = tmp_path / "labels.parquet"
    command = [
        sys.executable,
        "-m",
        "turnout.serving.cli.app",
        "label",
        str(run.logs),
        "--out",
        str(out),
        "--json",
        "--quiet",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    ledger = json.loads(done.stdout.splitlines()[0])
    rows = lines_of(run.logs)
    n_chats = sum(row["call_type"] == "acompletion" for row in rows)
    assert n_chats >= 0.9 * len(run.calls)
    # What is no chat are LiteLLM's own calls of its classifier, `POST /v1/systemone`.
    assert ledger["quarantined"] == {"not_chat": len(rows) - n_chats}
    assert sum(ledger["labelled"].values()) + sum(ledger["abstained"].values()) + ledger["merged"] == n_chats
    assert sum(ledger["labelled"].values()) >= 10, "requests that both models answered, in the turns"


def test_savings_that_litellm_reports_are_those_of_the_usage(run: Run):
    rows = logged(run, [one for one in run.healthy if one.request.way != "auto"])
    reported = sum(row["autorouter_savings"] for row in rows.values())
    computed = sum(saved_usd(run.upstream[user]) for user in rows)
    print(f"savings of {len(rows)} requests: reported {reported:.6f} USD, from usage {computed:.6f} USD")
    assert computed > 0
    assert math.isclose(reported, computed, rel_tol=1e-6)


def saved_usd(row: dict[str, Any]) -> float:
    tokens = row["usage"]["prompt_tokens"], row["usage"]["completion_tokens"]
    return cost_usd(STRONG, *tokens) - cost_usd(row["model"], *tokens)


def test_added_latency_is_a_few_milliseconds(run: Run):
    direct = run.p50_ms(DIRECT)
    print()
    for way in WAYS:
        added = run.p50_ms(way) - direct
        print(f"{way}: p50 {run.p50_ms(way):.1f} ms, without Turnout {direct:.1f} ms, added {added:.1f} ms")
        assert run.p50_ms(way) < direct + 100
