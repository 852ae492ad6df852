"""Parts: requests that a log spreads over several rows, put together again in whatever order they came.

Comes in: entries that hold a request, an answer or a score alone, each with its key and its place. Goes out: whole
entries at the place of the request; answers and scores that found none, with the reason. Held in memory until the
last file is read: the rows of a batch in full, of a score its value and key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import NamedTuple

from turnout.training.logs.cells import encode
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.readers import Entry, EntryPart


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """Where an entry stands; places sort in the order of reading."""

    file: int
    line: int
    index: int


class Held(NamedTuple):
    """An entry, with where it stands."""

    place: Place
    entry: Entry


_place = itemgetter(0)


@dataclass
class FileParts:
    """The parts of all files so far."""

    requests: dict[str, list[Held]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, list[Held]] = field(default_factory=lambda: defaultdict(list))
    scores: list[Held] = field(default_factory=list)

    def add(self, place: Place, entry: Entry) -> None:
        """Keep a part until its counterpart is there."""
        if entry.part is EntryPart.SCORE:
            self.scores.append(Held(place, entry))
        else:
            by_key = self.requests if entry.part is EntryPart.REQUEST else self.answers
            by_key[entry.key].append(Held(place, entry))

    def __len__(self) -> int:
        return sum(map(len, (*self.requests.values(), *self.answers.values()))) + len(self.scores)

    def joined(self) -> Iterator[Held]:
        """Yield requests with their answers, in no order; those with a reason belong in quarantine.

        The first request of a key takes its first answer, the second the second, each file's rows in their order;
        a request without answer comes alone. Where the same request was answered more often than it was written,
        every further answer comes with it too, at its own place. Different requests under one key are ambiguous.
        """
        for key in dict.fromkeys((*self.requests, *self.answers)):
            yield from _join(
                sorted(self.requests.get(key, []), key=_place), sorted(self.answers.get(key, []), key=_place)
            )


def _join(requests: Sequence[Held], answers: Sequence[Held]) -> Iterator[Held]:
    if not requests:
        yield from _refused(answers, Reason.NO_REQUEST)
    elif len({encode(held.entry.fields["request"]) for held in requests}) > 1:
        yield from _refused((*requests, *answers), Reason.AMBIGUOUS)
    else:
        for number in range(max(len(requests), len(answers))):
            request = requests[number] if number < len(requests) else Held(answers[number].place, requests[0].entry)
            answered = answers[number].entry.fields if number < len(answers) else {}
            yield Held(request.place, Entry(answered | request.entry.fields))


def _refused(held: Sequence[Held], reason: Reason) -> Iterator[Held]:
    return (Held(one.place, replace(one.entry, reason=reason)) for one in held)


def match_scores(scores: Sequence[Held], ids: AbstractSet[str], name: str) -> tuple[dict[str, float], list[Held]]:
    """Return the score of each record that has one, by id, and the scores that don't count, each with its reason.

    Args:
        scores: keyed by the record they judge; of several for one record the last counts.
        ids: of the records.
        name: of the scores that count; empty where all have the same name.
    """
    names = {held.entry.fields["name"] for held in scores}
    counted = name or (names.pop() if len(names) == 1 else "")
    found, unused = dict[str, float](), list[Held]()
    for held in sorted(scores, key=_place):
        if reason := _why_not(held.entry, ids, counted):
            unused += _refused([held], reason)
        else:
            found[held.entry.key] = held.entry.fields["score"]
    return found, unused


def _why_not(entry: Entry, ids: AbstractSet[str], counted: str) -> Reason | None:
    if entry.fields["name"] != counted:
        return Reason.OTHER_SCORE
    if not 0 <= entry.fields["score"] <= 1:
        return Reason.OUT_OF_RANGE
    return None if entry.key in ids else Reason.NO_REQUEST
