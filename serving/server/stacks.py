"""Where the threads of a hung worker were: what `faulthandler` wrote, in one line for the log.

In: its lines. Out: files, line numbers and names of functions, innermost first; it writes no values, so no prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_FRAMES, MOST_THREADS = 6, 8
_FRAME = re.compile(r'^  File "(?:.*/)?([^"/]+)", line (\d+) in (\S+)')


def places(lines: Iterable[str]) -> str:
    """Return the innermost frames of each thread, threads apart by ` | `; empty without any.

    Threads that only wait for work, in `threading` or an executor, come last and go first where there are many.
    """
    threads: list[list[str]] = []
    for line in lines:
        if line.startswith(("Thread ", "Current thread ")):
            threads.append([])
        elif threads and (found := _FRAME.match(line)):
            threads[-1].append(f"{found[1]}:{found[2]} {found[3]}")
    told = sorted((frames for frames in threads if frames), key=_waits_for_work)
    return " | ".join(", ".join(frames[:MOST_FRAMES]) for frames in told[:MOST_THREADS])


def _waits_for_work(frames: list[str]) -> bool:
    return frames[0].startswith(("threading.py:", "thread.py:", "queue.py:"))
