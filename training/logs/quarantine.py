"""Quarantine: the rows that could not be read, each with where it stands and why.

Comes in: rows refused by `training.logs.lines`, `training.logs.tables`, `training.logs.readers`, `training.logs.rows`
or `turnout.training.logs.parts`. Goes out: a JSONL file of file, line and reason, never of the row's text: a log's
damaged row is still a customer's row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from turnout.serving.files import replacing
from turnout.training.errors import DataRefused


class Reason(StrEnum):
    """Why a row was not read."""

    INVALID_UTF8 = "invalid_utf8"
    INVALID_JSON = "invalid_json"
    SEVERAL_OBJECTS = "several_objects"
    """Several JSON objects stand on one line of a file that has one a line elsewhere."""
    INVALID_CSV = "invalid_csv"
    WRONG_TYPE = "wrong_type"
    """A field of the wrong type, a row that is no object, or one with too many or too few columns."""
    NO_PROMPT = "no_prompt"
    OUT_OF_RANGE = "out_of_range"
    """A score outside 0 to 1 or NaN, or a propensity outside (0, 1]."""
    TOO_LONG = "too_long"
    TRUNCATED = "truncated"
    """The file is cut off within this row, or damaged from here on; the rows lost are not counted.

    gzip notices late: where bytes were overwritten rather than cut off, some rows just before may be garbled too."""
    WITHHELD = "withheld"
    """The gateway blanked or shortened the text of the prompt or of the answer."""
    NO_MODEL = "no_model"
    """An answer without the name of the model that gave it."""
    NO_ANSWER_KEY = "no_answer_key"
    """An answer under `responses` without any of `content`, `tool_calls`, `choices`, `output`, `text`, `score`."""
    NO_REQUEST = "no_request"
    """An answer or a score whose request is in none of the files."""
    AMBIGUOUS = "ambiguous"
    """Different requests stand under one key, so that nobody knows which of them an answer belongs to."""
    NOT_CHAT = "not_chat"
    """Not a chat completion: an embedding, a tool's span, a trace."""
    NOT_TEXT = "not_text"
    """The request holds or asks for what the router can't read, such as a file: its caption must teach nothing."""
    FAILED = "failed"
    """The call ended in an error: nothing to compare."""
    OTHER_PAIR = "other_pair"
    """The row compares two models other than the pair's."""
    OTHER_SCORE = "other_score"
    """A score of another name or kind than the one that counts."""


LEFT_OUT = frozenset({Reason.NOT_CHAT, Reason.NOT_TEXT, Reason.FAILED, Reason.OTHER_PAIR, Reason.OTHER_SCORE})
"""Rows that were understood and are of no use: they don't speak against the log."""


REMEDIES = {
    Reason.INVALID_UTF8: "save the file as UTF-8 (it may be Windows-1252: iconv -f WINDOWS-1252 -t UTF-8)",
    Reason.SEVERAL_OBJECTS: "several JSON objects stand on one line: put each on its own (jq -c .)",
    Reason.INVALID_CSV: "check the delimiter and the quotes of the CSV file",
    Reason.TRUNCATED: "the file is cut off: export it again",
    Reason.NO_MODEL: "say which model answered in a column `model`, or under `responses` by model name",
    Reason.NO_ANSWER_KEY: "an answer has `content`, `tool_calls`, `choices`, `output` or `text`, or is a text itself",
    Reason.NO_PROMPT: "the messages were not captured: turn on the logging of contents, or name the column with "
    "--column prompt=NAME, request=NAME or messages=NAME",
    Reason.NOT_CHAT: "none of these is a call of a chat model: export the generations (LLM spans) of the log",
    Reason.FAILED: "the calls ended in errors, or hold no answer: export those that succeeded, with their answers",
    Reason.WITHHELD: "the gateway blanked or shortened the texts: turn on the logging of message contents",
    Reason.NO_REQUEST: "give the file with the requests too",
    Reason.OTHER_SCORE: "name the score that counts with --score-name, and give the file with the rows it judges",
    Reason.WRONG_TYPE: "a field is missing or has another type than it should: scores are 0 to 1, messages a list",
}
"""What to type or to change where most rows of a log have such a reason."""


def odd_notice(odd: Mapping[str, int]) -> list[str]:
    """Return the line that says which optional fields were lost; none where none was."""
    names = ", ".join(f"{name} ({count} rows)" for name, count in sorted(odd.items()))
    return [f"fields that could not be read and were left out, their rows kept: {names}"] if names else []


def cut_notice(file: str, line: int) -> str:
    """Return the line that says where a file ends too early."""
    return f"{file} is cut off or damaged at line {line}: whatever came from there on is lost; export it again"


def notices_of(odd: Iterable[str], quarantine: Iterable[Rejected]) -> list[str]:
    """Return what a person has to know of rows that were read: fields they lost, and files that end too early."""
    cut = [row for row in quarantine if row.reason is Reason.TRUNCATED]
    return [*odd_notice(Counter(odd)), *(cut_notice(row.file, row.line) for row in cut)]


class RowRefused(Exception):
    """Carries a reason from where a row is understood to where it is counted; no caller outside sees it."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def reason_of(error: Exception) -> Reason:
    """Return why a row was not read, from what its decoding raised."""
    if isinstance(error, RowRefused):
        return error.reason
    damaged = isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError)
    return Reason.INVALID_JSON if damaged or isinstance(error, RecursionError) else Reason.WRONG_TYPE


ROW_ERRORS = (RowRefused, msgspec.MsgspecError, TypeError, ValueError, LookupError, OverflowError, RecursionError)
"""What decoding a row may raise; `LookupError` where it lacks what the first rows of its file had."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row in quarantine.

    Attributes:
        file, line: where the row stands (line counts from 1).
        reason: why it was not read.
        id: the row's own id, where at least that could be read.
        index: which of the requests on that line, from 0.
    """

    file: str
    line: int
    reason: Reason
    id: str | None = None
    index: int = 0


def refuse_mostly_bad(
    counts: Mapping[Reason, int],
    first: Rejected | None,
    n_rows: int,
    max_share: float = 0.5,
    *,
    n_records: int | None = None,
) -> None:
    """Refuse a log that was not understood; rows understood and left out don't count against it.

    Args:
        counts: rows in quarantine by reason, the most frequent first.
        first: the first of them that is not of `LEFT_OUT`.
        n_rows: rows read.
        n_records: rows that became records, where known; none at all is refused too.
        max_share: how many of the rows that count may be in quarantine.

    Raises:
        DataRefused: more are; the message counts them by reason.
    """
    told = ", ".join(f"{reason} {count}" for reason, count in counts.items())
    remedies = "".join(f"; {REMEDIES[reason]}" for reason in list(counts)[:3] if reason in REMEDIES)
    n_left_out = sum(count for reason, count in counts.items() if reason in LEFT_OUT)
    n_bad = sum(counts.values()) - n_left_out
    if first is None or n_bad <= max_share * (n_rows - n_left_out):
        if n_records == 0 and counts:
            raise DataRefused(f"no row of {n_rows} could be used ({told}){remedies}")
        return
    raise DataRefused(
        f"{n_bad} of {n_rows} rows can't be read ({told}), at most {max_share:.0%} may; "
        f"the first is {first.file}, line {first.line}; check the format and the column map{remedies}"
    )


def refuse_if_mostly_bad(quarantine: Sequence[Rejected], n_rows: int, n_records: int, max_share: float = 0.5) -> None:
    """Do so for rows in memory; raises as `refuse_mostly_bad`."""
    counts = dict(Counter(row.reason for row in quarantine).most_common())
    first = next((row for row in quarantine if row.reason not in LEFT_OUT), None)
    refuse_mostly_bad(counts, first, n_rows, max_share, n_records=n_records)


def write_quarantine(path: Path, rejected: Iterable[Rejected]) -> None:
    """Write file, line, index (where not 0) and reason of each rejected row as JSONL; replaces `path` in one step."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(map(quarantine_line, rejected))


def quarantine_line(row: Rejected) -> bytes:
    """Return the line that the quarantine holds for a row."""
    place = {"file": row.file, "line": row.line} | ({"index": row.index} if row.index else {})
    return msgspec.json.encode(place | {"reason": row.reason}) + b"\n"
