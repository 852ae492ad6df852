"""Reading: what the operator says about logs that can't be seen in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

AUTO = "auto"


class JoinBy(StrEnum):
    """What makes two rows the same request."""

    PROMPT = "prompt"
    """The rendered prompt, with its turns, tools and response format; never with images. Needs no ids in common."""
    ID = "id"
    """The rows' ids, for gateways that change the prompt; the strong row's prompt stands."""
    NONE = "none"


@dataclass(frozen=True)
class Reading:
    """How logs are to be read.

    Attributes:
        columns: our field name to the name in the files, where they differ: `{"prompt": "question"}`.
        log_format: name of a form in `turnout.training.logs.readers`, for every file; `auto` finds it file by file.
        join: what makes two rows with one answer each the same request.
        score: name of the scores that count, where a log holds scores of several names.
        labels: file of labels made before from the same logs (`turnout label`); None labels them here.
        prompts_only: whether only the prompts count, so that rows about another pair of models are read too.
        any_pair: whether files about other pairs alone are passed over and not refused, as where a ladder is read.
        allows_routed: whether rows with both answers that a router chose may teach without a `pair_propensity`.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    log_format: str = AUTO
    join: JoinBy = JoinBy.PROMPT
    score: str = ""
    labels: Path | None = None
    allows_routed: bool = False
    prompts_only: bool = False
    any_pair: bool = False
