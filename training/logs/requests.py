"""Requests: what several models answered to one request, from any log that a pair can be read from.

Comes in: logs and the names of a ladder's rungs. Goes out: `LoggedRequest`s. Every two rungs are read as a pair, with
the readers that pairs have; what stands at one place, or is the same request by the operator's rule, is put together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.training.errors import DataRefused
from turnout.training.logs.join import is_told_apart, join_digest
from turnout.training.logs.quarantine import Reason, Rejected, notices_of, refuse_if_mostly_bad
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import JoinBy, Reading
from turnout.training.logs.records import Record, Response
from turnout.training.logs.scores import score_rows
from turnout.training.logs.stored_files import LogFile


@dataclass
class LoggedRequest:
    """One request.

    Attributes:
        record: all of it but the answers; its strong and weak answer are those of some pair.
        answers: by number of the rung, 0 for the cheapest.
        preferences: a person's, of a rung against the top, by number of the rung.
    """

    record: Record
    answers: dict[int, Response] = field(default_factory=dict)
    preferences: dict[int, str | None] = field(default_factory=dict)

    def paired(self, rung: int, top: int) -> Record:
        """Return the record as one of the pair of a rung and the top."""
        preference = self.preferences.get(rung)
        return replace(self.record, strong=self.answers[top], weak=self.answers[rung], preference=preference)


@dataclass(frozen=True)
class RequestsRead:
    """Requests in the order of their files and lines, and rows that no pair could be read from.

    `number` is that of the request that a row belongs to, by the place of the row in any pair's reading.
    """

    requests: list[LoggedRequest]
    quarantine: list[Rejected]
    number: dict[tuple[str, int, int], int]

    def refuse_if_mostly_bad(self) -> None:
        """Refuse logs that were not understood, as those of a pair are."""
        refuse_if_mostly_bad(self.quarantine, len(self.number) + len(self.quarantine), len(self.requests))

    @property
    def notices(self) -> list[str]:
        """What a person has to know of rows that were read."""
        return notices_of((name for one in self.requests for name in one.record.odd_fields), self.quarantine)


def read_requests(
    paths: Sequence[LogFile], names: Sequence[str], reading: Reading, scores: Path | None = None
) -> RequestsRead:
    """Read the requests that at least one rung answered.

    Args:
        paths: logs, in the order of their rows.
        names: of the rungs, the cheapest first.
        reading: how the logs are to be read.
        scores: table `source, prompt_id, model, score` or `id, model, score` of rungs; None for none.

    Raises:
        DataRefused: a file can't be read, or no row holds an answer of any rung.
    """
    held = _Held(reading.join)
    top = len(names) - 1
    refused: dict[tuple[str, int, int], Rejected] = {}
    tolerant = replace(reading, any_pair=True)
    pairs = [(rung, top) for rung in range(top)]
    if scores is not None:  # a log may compare lower rungs alone, and the table hold the top's scores
        pairs = list(combinations(range(top + 1), 2))
    for weak, strong in pairs:
        held.begin_reading()
        read = read_records(paths, Pair(strong=names[strong], weak=names[weak]), tolerant).joined(reading.join)
        for record in read.records:
            found = {rung: said for rung, said in ((weak, record.weak), (strong, record.strong)) if said is not None}
            if found:
                held.add(record, found, weak if strong == top else None)
        refused |= {(row.file, row.line, row.index): row for row in read.quarantine}
    if not held.requests:
        raise DataRefused(f"no row holds an answer of {', '.join(names)}; name the models as the log does: --models")
    if scores is not None:
        _add_scores(held.requests, names, scores)
    number = {str(path): place for place, path in enumerate(paths)}
    ordered = sorted(held.requests, key=lambda one: (number[one.record.file], one.record.line, one.record.index))
    bad = [row for place, row in refused.items() if place not in held.places and row.reason is not Reason.OTHER_PAIR]
    by_request = {id(one): place for place, one in enumerate(ordered)}
    return RequestsRead(ordered, bad, {place: by_request[id(one)] for place, one in held.places.items()})


class _Held:
    """The requests so far, found by where they stand and by what makes two rows the same."""

    def __init__(self, join: JoinBy) -> None:
        self.join = join
        self.requests: list[LoggedRequest] = []
        self.places: dict[tuple[str, int, int], LoggedRequest] = {}
        self._same: defaultdict[bytes, list[LoggedRequest]] = defaultdict(list)
        self._met: set[int] = set()

    def begin_reading(self) -> None:
        """Begin with another pair: in the reading of one, no two rows are the same request any more."""
        self._met.clear()

    def add(self, record: Record, found: dict[int, Response], preferred: int | None) -> None:
        """Put answers to their request, or begin one."""
        request = self.places.get(record.place) or self._alike(record, found)
        if request is None:
            request = LoggedRequest(record)
            self.requests.append(request)
            if is_told_apart(record, self.join):
                self._same[join_digest(record, self.join)].append(request)
        self.places[record.place] = request
        self._met.add(id(request))
        request.answers |= {rung: said for rung, said in found.items() if rung not in request.answers}
        if preferred is not None:
            request.preferences.setdefault(preferred, record.preference)

    def _alike(self, record: Record, found: dict[int, Response]) -> LoggedRequest | None:
        """Return the first request of the same digest that none of the answers contradicts."""
        if not is_told_apart(record, self.join):
            return None
        for request in self._same.get(join_digest(record, self.join), ()):
            if id(request) not in self._met and all(
                request.answers.get(rung, said) == said for rung, said in found.items()
            ):
                return request
        return None


def _add_scores(requests: Iterable[LoggedRequest], names: Sequence[str], path: Path) -> None:
    """Give requests the table's scores of rungs that the log has none of; a snapshot's where no name is exact."""
    by_key: defaultdict[tuple[str | None, str], list[LoggedRequest]] = defaultdict(list)
    for request in requests:
        for source in {None, request.record.source or ""}:
            by_key[source, request.record.id].append(request)
    best: dict[tuple[int, int], tuple[bool, str, float]] = {}
    at: dict[int, LoggedRequest] = {}
    for row in score_rows(path):
        for request in by_key.get((row.source, str(row.prompt_id)), ()):
            for rung, name in enumerate(names):
                if is_model(row.model, name):
                    key, said = (id(request), rung), (row.model == name, row.model, row.score)
                    best[key], at[id(request)] = max(best.get(key, said), said), request
    if not best:
        raise DataRefused(
            f"{path}: no score of {', '.join(names)} for any row of the logs; source and prompt_id (or id) must be the "
            "source and id of the log rows, and model one of the names"
        )
    for (number, rung), (_, _, score) in best.items():
        answers = at[number].answers
        before = answers.get(rung)
        if before is None or before.score is None:
            answers[rung] = replace(before or Response(), score=score)
