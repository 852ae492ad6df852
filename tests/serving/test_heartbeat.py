"""What is counted as silence: time that a process had the CPU, and neither a starved nor a suspended machine."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.checkers import with_second_look
from tests.gates import BLOCKER, GatedModel, until
from tests.running import NOT_SERVING, SERVING, health_of, server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter
from turnout.serving.router.checker import Checked, CheckerModel
from turnout.serving.server import heartbeat, soundness, worker
from turnout.serving.server.heartbeat import SILENT_S, STARTING_S, Pulse, Thread
from turnout.serving.server.orders import Beat
from turnout.serving.server.stacks import places
from turnout.serving.wire.asking_check import AnswerItem

PID = 7
ASLEEP = Thread(0.0, 0.0, is_ready=False)


class Machine:
    """A clock and one worker's threads, as the kernel shows them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.state = ("S", False)
        self.threads = {PID: ASLEEP}
        monkeypatch.setattr(heartbeat, "state_of", lambda _: self.state)
        monkeypatch.setattr(heartbeat, "threads_of", lambda _: dict(self.threads))
        self.pulse = Pulse(PID, lambda: self.now_s)
        self.pulse.beat()

    def after(self, seconds: float, *, each_s: float = 1.0, ran: float = 0.0, waited: float = 0.0) -> bool:
        """Let ticks pass, in which the first thread ran and waited for these shares; whether one found it hung."""
        found = False
        for _ in range(round(seconds / each_s)):
            self.now_s += each_s
            one = self.threads[PID]
            is_ready = bool(ran or waited)
            self.threads[PID] = Thread(one.ran_s + ran * each_s, one.waited_s + waited * each_s, is_ready)
            found = self.pulse.tick() or found
        return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize("ran", [0.0, 1.0], ids=["asleep", "busy"])
def test_silence_with_the_cpu_at_hand_is_a_hang(machine: Machine, ran: float):
    assert not machine.after(SILENT_S, ran=ran)
    assert machine.after(2, ran=ran)


def test_beats_end_the_silence(machine: Machine):
    for _ in range(10):
        assert not machine.after(SILENT_S - 1)
        machine.pulse.beat()


@pytest.mark.parametrize("waited", [0.0, 1.0], ids=["a wait that goes on", "waits that ended"])
def test_time_without_a_cpu_is_no_silence(machine: Machine, waited: float):
    assert not machine.after(600, ran=0.003, waited=waited)


def test_starved_and_hung_is_found_by_the_time_it_had(machine: Machine):
    assert machine.after(SILENT_S / 0.2 + 20, ran=0.2, waited=0.8)


def test_other_thread_that_starves_takes_most_of_the_time_and_not_all(machine: Machine):
    machine.threads[PID + 1] = Thread(0.0, 0.0, is_ready=True)
    assert not machine.after(9 * SILENT_S)
    assert machine.after(3 * SILENT_S)


def test_machine_that_stood_still_is_no_silence(machine: Machine):
    machine.now_s += 3_600
    assert not machine.pulse.tick()


def test_debugger_stops_the_count(machine: Machine):
    machine.state = ("t", True)
    assert not machine.after(600)


def test_start_has_longer_and_a_stopped_one_has_not(machine: Machine):
    machine.pulse = Pulse(PID, lambda: machine.now_s)
    assert not machine.after(STARTING_S)
    machine.pulse = Pulse(PID, lambda: machine.now_s)
    machine.state = ("T", False)
    assert machine.after(SILENT_S + 2)


def test_kernel_that_does_not_tell_makes_the_limit_longer(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heartbeat, "threads_of", lambda _: {})
    machine.pulse.beat()
    machine.threads = {PID: ASLEEP}
    assert not machine.after(4 * SILENT_S)
    assert machine.after(3 * SILENT_S)


def test_threads_of_this_process_are_read():
    threads = heartbeat.threads_of(os.getpid())
    assert threads[os.getpid()].ran_s > 0
    assert heartbeat.state_of(os.getpid())[0] in "RS"
    assert heartbeat.state_of(2**22 + 1) == ("", False)


def test_full_pipe_blocks_no_worker():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "wb", buffering=0) as stream:
        for _ in range(20_000):  # a supervisor that reads nothing for hours
            worker._report(stream, Beat())
    os.close(reading)


def test_run_of_the_model_that_does_not_end_takes_the_server_out_of_service_until_it_does(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(soundness, "MODEL_S", 0.5)
    monkeypatch.setattr(soundness, "BEAT_S", 0.1)
    beats: list[int] = []

    async def check() -> None:
        gated = GatedModel(bundle.model)
        async with server_in_loop(dataclasses.replace(bundle, model=gated)) as (server, address):
            beating = asyncio.create_task(server.soundness.beat(lambda: beats.append(1)))
            assert await asyncio.to_thread(health_of, address) == SERVING
            async with AsyncRouter(address, timeout_s=60) as router:
                asking = asyncio.create_task(router.route(text=BLOCKER))
                await until(lambda: not server.soundness.is_sound, 60)
                await until(lambda: not server.service.is_ready, 60)
                assert await asyncio.to_thread(health_of, address) == NOT_SERVING
                n_beats = len(beats)
                await asyncio.sleep(0.5)
                assert len(beats) <= n_beats + 1
                gated.gate.set()
                await asking
                await until(lambda: server.service.is_ready, 60)
                assert await asyncio.to_thread(health_of, address) == SERVING
            beating.cancel()

    asyncio.run(check())


def test_a_second_look_that_does_not_end_takes_the_server_out_of_service_until_it_does(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(soundness, "MODEL_S", 0.5)
    monkeypatch.setattr(soundness, "BEAT_S", 0.1)
    beats: list[int] = []
    gate = threading.Event()

    class Gated(CheckerModel):
        def __init__(self, checker: CheckerModel) -> None:
            self.checker = checker

        def check(self, *asked: Any) -> Checked:
            gate.wait(120)
            return self.checker.check(*asked)

    async def check() -> None:
        checked = with_second_look(bundle)
        assert checked.checker is not None
        served = dataclasses.replace(checked, checker=Gated(checked.checker))
        async with server_in_loop(served) as (server, address), AsyncRouter(address, timeout_s=60) as router:
            beating = asyncio.create_task(server.soundness.beat(lambda: beats.append(1)))
            routed = await router.route(text="hello there", can_check=True)
            assert routed.action == "try"
            asking = asyncio.create_task(router.check(AnswerItem(text="Paris."), routed, text="hello there"))
            await until(lambda: not server.soundness.is_sound and not server.service.is_ready)
            assert await asyncio.to_thread(health_of, address) == NOT_SERVING
            n_beats = len(beats)
            await asyncio.sleep(0.5)
            assert len(beats) <= n_beats + 1
            gate.set()
            await asking
            await until(lambda: server.service.is_ready)
            assert await asyncio.to_thread(health_of, address) == SERVING
            beating.cancel()

    with caplog.at_level("WARNING", "turnout.server"):
        asyncio.run(check())
    assert any(line.startswith("the second look has been at one run") for line in caplog.messages)
    assert not any(line.startswith("the model has been") for line in caplog.messages)


def test_stacks_become_one_line_with_those_that_work_first():
    lines = [
        "Thread 0x1 (most recent call first):\n",
        '  File "/usr/lib/python3.11/threading.py", line 324 in wait\n',
        '  File "/usr/lib/python3.11/queue.py", line 171 in get\n',
        "\n",
        "Current thread 0x2 (most recent call first):\n",
        '  File "/srv/turnout/serving/router/model.py", line 12 in predict\n',
        '  File "<frozen runpy>", line 198 in _run_module_as_main\n',
    ]
    assert places(lines) == (
        "model.py:12 predict, <frozen runpy>:198 _run_module_as_main | threading.py:324 wait, queue.py:171 get"
    )
    assert places(["half a li", str(Path("x"))]) == ""
