"""Progress of long work: a bar a stage on a terminal, one line a stage elsewhere, nothing with `--quiet`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

Advance = Callable[[int], None]


class Reporter:
    """Tells a person on stderr what is going on; standard output stays for results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show one stage; the yielded function takes the number of steps just done."""
        started = time.perf_counter()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            task = bars.add_task(name, total=total)
            yield lambda steps: bars.advance(task, steps)
        self._console.print(f"{name}: {time.perf_counter() - started:.1f} s", highlight=False)

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False)
