"""The page of `turnout drift`: one self-contained file, in the colours of the report, light and dark."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import jinja2

import turnout.training.report
from turnout.serving.router.features import STRUCTURAL
from turnout.training.drift.compare import P_VALUE, DriftReport
from turnout.training.drift.figures import draw
from turnout.training.report import words

TEMPLATE = "drift.html.j2"
NOTHING_LOADED = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
MEANINGS = {
    "p_match": "probability that the weak model does as well (PSI)",
    "out_of_distribution": "share of requests unlike the training data",
    "calibration_error": "mean distance of p_match from what came true",
    "brier": "mean squared error of p_match",
    "tried": "distance of the share of tries from the policy's",
    "unchecked": "share of tries whose verdict is missing",
    "escalated": "distance of the share of escalations from the policy's",
    "mean_logprob_gone": "fall of the share of answers with log-probabilities that count",
    "self_check_gone": "fall of the share of answers with a self-check that counts",
    "p_match_checked": "probability that the weak answer may stand (PSI)",
    "mean_logprob": "mean log-probability of checked answers (PSI)",
    "self_check": "log-probability that the weak model calls its answer right (PSI)",
    "log_characters": "log(1 + characters of checked answers) (PSI)",
    **{name: f"{meaning} (PSI)" for name, meaning in STRUCTURAL.items()},
}


def render_drift(report: DriftReport) -> str:
    """Return the page as HTML."""
    folders = [Path(__file__).parent, *map(Path, turnout.training.report.__path__)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        r=report,
        svg={name: drawn.inline for name, drawn in draw(report).items()},
        w=words,
        meanings=MEANINGS,
        most_p=P_VALUE,
        content_policy=NOTHING_LOADED,
        since=_when(report.since_s),
        until=_when(report.until_s),
    )


def _when(moment_s: float | None) -> str | None:
    return None if moment_s is None else f"{dt.datetime.fromtimestamp(moment_s, dt.UTC):%Y-%m-%d %H:%M} UTC"
