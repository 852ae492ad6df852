"""SIGKILL while judging, again and again: nothing is paid twice and the result is the same to the byte."""

from __future__ import annotations

import random
import signal
import sqlite3
import time

import pytest

from tests.fake_endpoint import FakeEndpoint, Fault, fake_endpoint
from tests.training.judging import arguments, start, turnout, undecided_log

ROWS_PER_KILL = 40  # 80 calls; up to 50 are made before a kill
CONCURRENCY = 4
IN_CHUNKS_OF_7 = (
    "from turnout.training.judge import labelling; labelling.CHUNK_ROWS, labelling.CHUNK_WAVES = 7, 1;"
    "from turnout.serving.cli.app import main; main()"
)


def kill_at_random(endpoint: FakeEndpoint, chance: random.Random, command: list[str]) -> bool:
    """Start, and kill within the next requests or, now and then, at some moment of the start; False if it ended."""
    process = start(*command, script=IN_CHUNKS_OF_7)
    wanted = len(endpoint.bodies) + chance.randint(0, 30)
    until_s = time.monotonic() + (chance.uniform(0, 2) if chance.random() < 0.2 else 60)
    while process.poll() is None and len(endpoint.bodies) < wanted and time.monotonic() < until_s:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.02))
    process.send_signal(signal.SIGKILL)
    return process.wait(60) == -signal.SIGKILL


def faults(number: int, _: object) -> Fault | None:
    return {3: Fault(429, {"Retry-After": "0.02"}), 7: Fault(500)}.get(number % 40)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.bench)])
@pytest.mark.parametrize("is_idempotent", [True, False])
def test_killed_again_and_again_it_pays_nothing_twice_and_ends_with_the_same_bytes(
    tmp_path, monkeypatch, capsys, is_idempotent, kills
):
    """Calls under way at a kill may be billed without an answer: they, and only they, are sent again.

    An endpoint that knows `Idempotency-Key` bills them once all the same. Runs that nobody kills are made in this
    process, which has everything imported.
    """
    log = undecided_log(tmp_path / "log.jsonl", kills * ROWS_PER_KILL)
    out, untouched = tmp_path / "killed.parquet", tmp_path / "untouched.parquet"
    chance = random.Random(1)
    with fake_endpoint(latency_s=0.004, is_idempotent=is_idempotent, faults=faults) as endpoint:
        command = ["label", log, "--quiet", *arguments(endpoint, "--judge-concurrency", CONCURRENCY), "--out", out]
        killed = 0
        while killed < kills:
            assert kill_at_random(endpoint, chance, command), "ended before it was killed often enough"
            killed += 1
            assert not out.exists()
        assert turnout(monkeypatch, capsys, *command).code == 0
        with sqlite3.connect(f"file:{out}.judge.sqlite?mode=ro", uri=True) as database:
            (in_doubt,) = database.execute("select count(*) from sends where state = 'in_doubt'").fetchone()
        database.close()
        answered = 2 * kills * ROWS_PER_KILL
        assert endpoint.n_billed == answered + endpoint.billed_twice
        assert endpoint.billed_twice <= (0 if is_idempotent else in_doubt)
        assert in_doubt <= kills * CONCURRENCY
        bill = endpoint.n_billed
        assert turnout(monkeypatch, capsys, *command).code == 0
        assert endpoint.n_billed == bill
    with fake_endpoint() as endpoint:
        ended = turnout(monkeypatch, capsys, "label", log, "--quiet", *arguments(endpoint), "--out", untouched)
        assert ended.code == 0
    assert out.read_bytes() == untouched.read_bytes()
    verdicts = [path.with_name(f"{path.name}.judge.jsonl").read_bytes() for path in (out, untouched)]
    assert verdicts[0] == verdicts[1]
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp" or "spool" in path.name]
