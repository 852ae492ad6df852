"""Records: what one row of a log says, whatever format it came in.

Comes in: rows decoded by `turnout.training.logs.read`. Goes out: `Record`, the input of every later stage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from turnout.serving.router.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Response:
    """What one model answered.

    Attributes:
        content: the answer's text, its tool calls included; None when the log kept only its score.
        score: 0 to 1, 1 is right; None when nobody scored it.
        prompt_tokens, completion_tokens: as the provider counted them; None when unknown.
        token_logprobs: natural log-probability, 0 or less, of each token of the answer; None where none were logged.
        mean_logprob: their mean, also where only that was logged; None when unknown.
        self_check: log-probability that the model itself calls its answer right, signed as
            `turnout.serving.router.answer` says; None when it was not asked.
        finish_reason: why the model stopped, as the provider says it; None when unknown.
        is_refusal: whether the provider marks it as a refusal.
        latency_ms: from the request to the whole answer, more than 0; None when unknown.
        length: of a text that was not kept, in estimated tokens; None when unknown.
    """

    content: str | None = None
    score: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    token_logprobs: tuple[float, ...] | None = None
    mean_logprob: float | None = None
    self_check: float | None = None
    finish_reason: str | None = None
    is_refusal: bool = False
    latency_ms: float | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One request with what each model of the pair answered; either may be missing.

    Attributes:
        id: the row's own id, or `file:line` where it has none.
        prompt: the rendered request.
        user_text: the last user message alone: what groups the row with its repetitions.
        carried: digest of what else the request carries and the answer depends on: tools, format, parameters; empty
            for none, and where the row can't be joined with another.
        strong, weak: the answers; None when that model was not asked.
        reference: gold answer.
        preference: `strong`, `weak` or `tie`, as a person judged.
        language: as the log names it, in any form; only shown.
        group_id, session_id: rows sharing either never stand on both sides of a split.
        tenant: on whose behalf the request came.
        created: seconds since the epoch.
        pair_propensity: probability in (0, 1] that both answers were obtained.
        route_propensity: probability in (0, 1] that the router took the route it took; None where none routed.
        file, line: where the row stands (line counts from 1).
        index: which of the requests on that line, from 0; a line of OpenTelemetry spans holds many.
        odd_fields: names of optional fields that the row had in a form that can't be read: the row lost these alone.
        other_models: whose answers the row holds, where it has none of the pair's.
    """

    id: str
    prompt: Prompt
    user_text: str
    strong: Response | None = None
    weak: Response | None = None
    reference: str | None = None
    preference: str | None = None
    task: str | None = None
    source: str | None = None
    language: str | None = None
    group_id: str | None = None
    session_id: str | None = None
    tenant: str | None = None
    created: float | None = None
    pair_propensity: float | None = None
    route_propensity: float | None = None
    file: str = ""
    line: int = 0
    index: int = 0
    odd_fields: tuple[str, ...] = ()
    other_models: tuple[str, ...] = ()
    carried: str = ""

    @property
    def place(self) -> tuple[str, int, int]:
        """Where the record stands: file, line and index; no two records of one reading share it."""
        return self.file, self.line, self.index

    def with_score(self, score: float) -> Record:
        """Return the record with this score, 0 to 1, for every answer it holds."""
        return replace(self, strong=_scored(self.strong, score), weak=_scored(self.weak, score))


def _scored(response: Response | None, score: float) -> Response | None:
    return None if response is None else replace(response, score=score)


@dataclass(frozen=True, slots=True)
class Label:
    """Whether the weak model was not worse than the strong one, and who says so.

    Attributes:
        match: 1 when the weak model was not worse, 0 when it was.
        labeller: who spoke: `scores`, `preference`, `judge`, or a family and its member, as in `reference:choice`.
        confidence: probability in (0, 1] that the label is right, as far as the labeller knows.
        strong_score, weak_score: 0 to 1; None when the labeller compares without scoring.
    """

    match: int
    labeller: str
    confidence: float
    strong_score: float | None = None
    weak_score: float | None = None

    @property
    def family(self) -> str:
        """The labeller without its member: `reference` of `reference:choice`."""
        return self.labeller.partition(":")[0]


@dataclass(frozen=True, slots=True)
class LabelledRecord:
    """A record with its label; only these enter the fit."""

    record: Record
    label: Label
