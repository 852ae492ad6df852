"""Pool of a ladder: its requests, old and new, with the labels that each rung has.

Comes in: logs and the store of kept rows. Goes out: `LadderPool`, as `training.retrain.pool` makes one of a pair. Logs
without prompts are refused: nothing in them speaks of rungs between.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.arrays import Bools, Floats
from turnout.training.dataset.ladder import LadderRead, Requests, label_requests, put_together, say_rates
from turnout.training.errors import DataRefused
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.retrain.kept import LadderOrigin
from turnout.training.retrain.kept_ladder import KeptRequest, read_kept_ladder
from turnout.training.retrain.pool import Aging, age_days, fading, within_window


@dataclass(frozen=True)
class LadderPool:
    """Old and new requests of a ladder; arrays are (n,), in the order of `rows`.

    Attributes:
        rows: with the moment that each was first kept.
        is_old: whether it stood in the store.
        read: the same rows in groups; its weights, and those of its pair, fall with age.
        weight: 1 / pair propensity alone.
    """

    rows: list[KeptRequest]
    is_old: Bools
    read: LadderRead
    weight: Floats

    @property
    def n_new(self) -> int:
        """Rows that did not stand in the store."""
        return int((~self.is_old).sum())


def pool_ladder(
    paths: Sequence[LogFile],
    kept: Path | None,
    origin: LadderOrigin,
    reading: Reading,
    aging: Aging,
    reporter: Reporter,
    scores: Path | None = None,
) -> LadderPool:
    """Read and label the logs rung by rung, and put the kept rows before them.

    Args:
        paths: the logs; they may lack a rung that kept rows have.
        kept: the store; None for none.
        origin: whose answers are compared.
        reading: how the logs are to be read.
        aging: window and decay.
        reporter: what is told of the progress.
        scores: table of scores that the logs lack; None for none.

    Raises:
        DataRefused: as `load_ladder` does, or neither logs nor store compare a rung with the top.
    """
    names = origin.names
    before = [] if kept is None else read_kept_ladder(kept, origin)
    found = label_requests(paths, names, reading, origin.margin, reporter, scores, may_lack=range(len(names) - 1))
    known, now_s = {one.identity for one in before}, time.time()
    new = [
        KeptRequest(request, tuple(of_rung.get(number) for of_rung in found.labels), now_s)
        for number, request in enumerate(found.requests)
    ]
    again = {one.identity: one for one in new if one.identity in known}
    old = [_with_more(one, again.get(one.identity)) for one in before]
    rows = [*old, *(one for one in new if one.identity not in known)]
    if not rows:
        raise DataRefused(f"no row compares any of {', '.join(names[:-1])} with {names[-1]}; log requests with both")
    age = age_days(rows)
    within = within_window(age, aging)
    rows = [rows[row] for row in within]
    labels = tuple(
        {number: label for number, one in enumerate(rows) if (label := one.labels[rung]) is not None}
        for rung in range(len(names) - 1)
    )
    for rung, name in enumerate(names[:-1]):
        if not labels[rung]:
            raise DataRefused(
                f"neither the logs nor kept rows compare {name} with {names[-1]}, and a challenger has all rungs of "
                f"its champion: log some requests with both, or train a ladder without {name}: turnout train --models "
                + ",".join(one for one in names if one != name)
            )
    requests = Requests([one.request for one in rows], labels, found.quarantine, found.unlabelled)
    read = put_together(requests, LATEST_HARNESS_RULES, reporter)
    say_rates(read, names, reporter)
    fade = fading(age[within], aging)
    pair = replace(read.pair, weight=read.pair.weight * fade[read.in_pair])
    is_old = np.array([one.identity in known for one in rows], dtype=bool)
    return LadderPool(rows, is_old, replace(read, weight=read.weight * fade, pair=pair), read.weight)


def _with_more(kept: KeptRequest, again: KeptRequest | None) -> KeptRequest:
    """Return a kept request with the labels that it lacked when it was kept, as where a rung's scores came later."""
    if again is None or not any(new and not old for new, old in zip(again.labels, kept.labels, strict=True)):
        return kept
    answers = again.request.answers | kept.request.answers
    labels = tuple(old or new for new, old in zip(again.labels, kept.labels, strict=True))
    return replace(kept, request=replace(kept.request, answers=answers), labels=labels)
