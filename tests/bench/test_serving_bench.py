"""The benchmark beside peers: what it measures is there, comparable, and honest about what is missing."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import msgspec
import pytest

from tests.bench.serving import __main__ as command
from tests.bench.serving import beside, lone, variants
from tests.bench.serving.beside import Told
from tests.bench.serving.load import Session, drive
from tests.bench.serving.processes import NotMeasured, running
from tests.bench.serving.promises import promises
from tests.bench.serving.prompts import LENGTHS, of_length
from tests.bench.serving.result import Result
from tests.bench.serving.turns import Seconds, Turn
from tests.bench.serving.variants import ECHO, FASTAPI, MLSERVER_INLINE, ROOT, Variant
from tests.scorecard.load import Plan
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import prompt_from_text


def a_turn(slower: float = 1.0, p50_ms: float = 1.0, **figures: float) -> Turn:
    """Return what a machine `slower` times than the usual one would have measured."""
    by_length = dict.fromkeys(LENGTHS, slower * p50_ms)
    measured = {"calls_per_s": 100.0 / slower, "mix_p50_ms": slower, "cpu_s_per_1000": slower, "pss_mib": 1.0} | figures
    return Turn(
        start_s=slower, p50_ms=by_length, p99_ms=by_length, loaded_p50_ms=slower, loaded_p99_ms=slower, **measured
    )


@pytest.mark.slow
def test_run_reports_every_figure_of_ours_and_its_parts(tmp_path):
    file = tmp_path / "result.json"
    names = ["echo", "in-process", "ours"]
    arguments = ["--rounds", "1", "--scale", "0.2", "--json", str(file), "--only", *names]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.serving", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = msgspec.json.decode(file.read_bytes(), type=Result)
    (turns,) = result.rounds
    assert list(turns) == names
    for turn in turns.values():
        assert turn.failed == 0
        assert set(turn.p50_ms) == set(LENGTHS)
        assert min(turn.start_s, turn.calls_per_s, turn.cpu_s_per_1000, turn.pss_mib, *turn.p50_ms.values()) > 0
    assert len(result.promises) == len(LENGTHS)
    assert 0 <= result.early_exit.disagreement <= result.early_exit.fast_share <= 1
    assert "Turnout as shipped" in done.stdout


def test_peer_without_environment_is_left_out_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(variants, "ROOT", tmp_path)
    monkeypatch.setattr(command, "MIX_PROMPTS", 5)
    result = command.measure([FASTAPI], 1, Seconds(), None)
    assert result.skipped == {"fastapi": "no .venv-bench-fastapi; make bench-serving makes it"}
    assert result.rounds == [{}]


def test_variant_that_ends_at_once_says_what_it_printed():
    failing = Variant(name="failing", what="", command=("-c", "raise SystemExit('no such weights')"), protocol="json")
    with pytest.raises(NotMeasured, match="no such weights"), running(failing):
        pass


def test_ended_variant_leaves_no_process_and_no_listener():
    with running(ECHO) as alive:
        target = alive.target
    assert alive.process.poll() is not None
    host, _, port = target.rpartition(":")
    with pytest.raises(OSError, match="Connect call failed"):
        asyncio.run(asyncio.open_connection(host, int(port)))


def test_ratio_is_taken_within_a_round_so_that_a_slow_round_changes_nothing():
    rounds = [
        {"echo": a_turn(slower), "in-process": a_turn(slower), "ours": a_turn(slower, p50_ms=2.2)} for slower in (1, 5)
    ]
    for promise in promises(rounds):
        assert promise.minimum == pytest.approx(1.1)
        assert promise.maximum == pytest.approx(1.1)
        assert promise.is_kept


def test_broken_promise_is_said_to_be_broken():
    ours, other = a_turn(calls_per_s=299.0), a_turn(calls_per_s=100.0)
    (promise,) = promises([{"ours": ours, "mlserver": other}])
    assert not promise.is_kept
    (promise,) = promises([{"ours": a_turn(calls_per_s=301.0), "mlserver": other}])
    assert promise.is_kept


@pytest.mark.skipif(not MLSERVER_INLINE.is_there, reason="no .venv-bench-mlserver; make bench-serving makes it")
def test_mlserver_gives_the_same_p_match_as_the_graph_in_process():
    text = of_length(32)[0]
    with running(MLSERVER_INLINE) as alive:
        (load,) = drive(Session("v2", [Plan(targets=[alive.target], texts=[text], seconds=0.2, callers=1)]))
    bundle = load_bundle(find_bundle())
    expected = bundle.model.predict(prompt_from_text(text), bundle.manifest.policy("").threshold).p_match
    assert list(load.bundles) == [f"turnout {expected:.9f}"]


def a_load(calls_per_s: float, cpu_us: float = 100.0, p50_ms: float = 1.0, failed: int = 0) -> Told:
    return Told(calls_per_s=calls_per_s, cpu_us=cpu_us, p50_ms=p50_ms, p99_ms=2 * p50_ms, failed=failed)


def test_peers_are_held_against_ours_within_a_round_so_that_a_slow_round_changes_nothing():
    rounds = [
        {"ours": {"mix": a_load(1000 / slow, 100 * slow)}, "fastapi": {"mix": a_load(50 / slow, 2000 * slow)}}
        for slow in (1.0, 7.0)
    ]
    _, ours, theirs = beside.table(rounds)
    assert ours.split()[-2:] == ["1.00", "1.00"]
    assert theirs.split()[-2:] == ["20.00", "20.00"]


def test_a_load_that_ours_has_not_has_no_ratio_and_calls_without_an_answer_are_counted():
    told = {"ours": {}, "litellm": {"fast": a_load(10.0, failed=3)}}
    _, line = beside.table([told, told])
    assert line.split()[-1] == "6"


def test_a_lone_call_is_held_against_the_echo_of_the_same_round():
    def slices(slow: float) -> lone.Slices:
        return {("C++ client", lone.ECHO): [(200 * slow, 100 * slow)], ("C++ client", "Turnout"): [(500, 150 * slow)]}

    lines = list(lone.table([slices(1.0), slices(4.0)]))
    assert lines[-1].split()[-4:] == ["375", "1.50", "1.50", "1.50"]


@pytest.mark.slow
def test_a_lone_call_is_measured_with_every_client_and_server_there_is(tmp_path):
    request = pb.RouteRequest(text="Which of the two ferries leaves first?").SerializeToString()
    file = tmp_path / "requests"
    file.write_bytes(len(request).to_bytes(4, sys.byteorder) + request)
    found = lone.one_round([request], file, 2, None)
    names = {lone.ECHO, "Turnout"} | ({"C++ echo"} if lone.CPP.exists() else set())
    assert {server for _, server in found} == names
    assert all(len(values) == 2 and min(min(one) for one in values) > 0 for values in found.values())
