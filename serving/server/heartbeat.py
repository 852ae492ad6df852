"""Whether a worker still turns: it says so once a second, and is hung when it had the CPU and said nothing.

    worker: event loop turns, model answers -> a line on the pipe -> supervisor: so many ticks without one -> hung

What is counted is not the time on the clock. A tick counts for two seconds at most, so that a machine or container
that stood still counts for nothing; the time for which threads waited for a CPU is taken off
(`/proc/PID/task/*/schedstat`), so that a starved worker is not a hung one; and a worker that a debugger holds counts
for nothing. Imports no model.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BEAT_S = 1.0
SILENT_S = 5.0
"""For so long a worker may have the CPU and not beat; what was measured: docs/decisions/serving."""
STARTING_S = 300.0
"""The same until a worker is warm, when it can't beat: two and a half times what a reload may take."""
UNMEASURED = 6.0
"""By how much longer the silence may be where the kernel does not say how long threads waited for a CPU."""
OTHERS_SHARE = 0.9
"""At most this share of a tick is taken off for other threads than the first: one of low priority may wait for ever."""
_MOST_A_TICK_S = 2 * BEAT_S


class Silence:
    """Counts for how long a process could have done something and did not.

    Attributes:
        seconds: the count.
    """

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count now; `clock` gives seconds."""
        self.seconds = 0.0
        self.passed_s = 0.0
        self._pid = pid
        self._clock = clock
        self._ticked_s = clock()
        self._threads = threads_of(pid)

    def reset(self) -> None:
        """Begin anew: it did it."""
        self.seconds = 0.0

    def tick(self, *, counts: bool = True) -> float:
        """Add the time since the last tick, less the waits for a CPU; return the count.

        Args:
            counts: False to let this time pass.
        """
        now_s = self._clock()
        self.passed_s, self._ticked_s = min(now_s - self._ticked_s, _MOST_A_TICK_S), now_s
        before, self._threads = self._threads, threads_of(self._pid)
        if counts:
            self.seconds += max(0.0, self.passed_s - self._kept_s(before, self._threads))
        return self.seconds

    @property
    def is_measured(self) -> bool:
        """Whether the kernel says how long threads waited."""
        return bool(self._threads)

    def _kept_s(self, before: dict[int, Thread], now: dict[int, Thread]) -> float:
        """Return how long the process was kept from running: its first thread, or another that may hold the GIL."""
        kept = {number: one.kept_s(before.get(number, one), self.passed_s) for number, one in now.items()}
        others_s = max(kept.values(), default=0.0)
        return max(kept.get(self._pid, 0.0), min(others_s, OTHERS_SHARE * self.passed_s))


class Pulse:
    """What the supervisor knows of one worker's heart.

    Attributes:
        is_stopped: whether the worker stood still at the last tick, by SIGSTOP.
        is_starting: whether it is not warm yet, and so does not beat yet.
    """

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a worker that was just started."""
        self.is_stopped = False
        self.is_starting = True
        self._pid = pid
        self._silence = Silence(pid, clock)
        self._stopped_s = 0.0

    @property
    def silent_s(self) -> float:
        """For how long the worker could have beaten and did not, in seconds."""
        return self._silence.seconds

    def beat(self) -> None:
        """Take note of a beat, or of the worker's being warm."""
        self.is_starting = False
        self._silence.reset()

    def tick(self) -> bool:
        """Count the time since the last tick; return whether the worker is hung."""
        state, is_traced = state_of(self._pid)
        silent_s = self._silence.tick(counts=not is_traced)
        self.is_stopped = state == "T"
        self._stopped_s = self._stopped_s + self._silence.passed_s if self.is_stopped else 0.0
        limit_s = (STARTING_S if self.is_starting else SILENT_S) * (1.0 if self._silence.is_measured else UNMEASURED)
        return silent_s > limit_s or self._stopped_s > SILENT_S


@dataclass(frozen=True, slots=True)
class Thread:
    """What the kernel says of a thread.

    Attributes:
        ran_s: CPU time it has had.
        waited_s: for how long it has been ready to run and was not run; a wait is in here once it has ended.
        is_ready: whether it runs or waits for a CPU now.
    """

    ran_s: float
    waited_s: float
    is_ready: bool

    def kept_s(self, before: Thread, passed_s: float) -> float:
        """Return for how much of the last `passed_s` it waited for a CPU, a wait that goes on included."""
        going_on_s = passed_s - (self.ran_s - before.ran_s) if self.is_ready else 0.0
        return max(self.waited_s - before.waited_s, going_on_s, 0.0)


def threads_of(pid: int) -> dict[int, Thread]:
    """Return the threads of a process; none where the kernel does not tell."""
    threads, me = {}, threading.get_native_id()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it may end just now
                ran, waited, *_ = (task / "schedstat").read_text().split()
                state = (task / "stat").read_text().rpartition(")")[2].split()[0]
                is_ready = state == "R" and int(task.name) != me  # who reads this does not wait
                threads[int(task.name)] = Thread(int(ran) / 1e9, int(waited) / 1e9, is_ready)
    return threads


def state_of(pid: int) -> tuple[str, bool]:
    """Return the letter of the process's state, and whether a debugger holds it; no letter when it is gone."""
    said = {}
    with contextlib.suppress(OSError):
        said = dict(line.partition(":")[::2] for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return said.get("State", "").strip()[:1], said.get("TracerPid", "0").strip() != "0"
