"""The report's page: what the template needs, computed, and the files written."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import jinja2

from turnout.serving.bundles.manifest import Manifest
from turnout.serving.router.features import STRUCTURAL
from turnout.training.evaluation.evaluation import Evaluation
from turnout.training.evaluation.figures import flat
from turnout.training.report import words
from turnout.training.report.draw import draw_all
from turnout.training.report.explorer import explorer, pair_prices_known
from turnout.training.report.figures import BASELINE_NAMES
from turnout.training.report.looks import looks_context
from turnout.training.report.slices import slice_tables, weaknesses
from turnout.training.report.style import SavedFigure

TEMPLATE = "page.html.j2"
SCRIPT = "explorer.js"


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One line of the metrics table, its numbers as text; `baselines` in the table's order."""

    name: str
    meaning: str
    router: str
    interval: str
    baselines: list[str]


# name, what it is called, what it means, whether it is a share
_METRICS = (
    (
        "share_at_quality.0.99",
        "Weak share at 99 % quality",
        "largest share to {weak} that keeps 99 % of the quality",
        True,
    ),
    ("share_at_quality.0.98", "Weak share at 98 % quality", "the same at 98 %", True),
    ("quality_at_share.0.25", "Quality at 25 % weak", "relative to {strong}", True),
    ("quality_at_share.0.5", "Quality at 50 % weak", "relative to {strong}", True),
    ("quality_at_share.0.75", "Quality at 75 % weak", "relative to {strong}", True),
    ("apgr", "APGR", "share of the quality gap recovered, averaged over all splits; higher is better", False),
    ("cpt50", "CPT(50 %)", "share to {strong} that recovers half of the gap; lower is better", True),
    ("cpt80", "CPT(80 %)", "share to {strong} that recovers 80 % of the gap; lower is better", True),
    ("auroc", "AUROC", "ranking of matches above misses; higher is better", False),
    ("auroc_within_source", "AUROC within source", "the same inside each source, weighted by rows", False),
    ("ece", "Calibration error (ECE)", "mean distance of p_match from the truth; lower is better", False),
    ("ece_floor", "ECE of a perfect router", "what chance alone gives on so many rows", False),
    ("brier", "Brier score", "mean squared error of p_match; lower is better", False),
    ("log_loss", "Log loss", "in nats; lower is better", False),
)


def render_report(manifest: Manifest, evaluation: Evaluation, out_dir: Path) -> Path:
    """Write `index.html` and the figures as PNG and SVG into `out_dir`, which is made; return the page's path."""
    out_dir.mkdir(parents=True, exist_ok=True)
    figures = draw_all(manifest, evaluation)
    for name, drawn in figures.items():
        (out_dir / f"{name}.png").write_bytes(drawn.png)
        (out_dir / f"{name}.svg").write_bytes(drawn.svg)
    path = out_dir / "index.html"
    path.write_text(_page(manifest, evaluation, figures), encoding="utf-8")
    return path


def _page(manifest: Manifest, evaluation: Evaluation, figures: Mapping[str, SavedFigure]) -> str:
    names = [name for name in evaluation.baselines if name not in {"always_weak", "always_strong"}]
    page = _environment().get_template(TEMPLATE)
    script = Path(__file__).with_name(SCRIPT).read_text(encoding="utf-8")
    looks = evaluation.two_looks
    found = None if evaluation.thresholds is None else explorer(manifest, evaluation.thresholds, looks)
    return page.render(
        m=manifest,
        e=evaluation,
        svg={name: drawn.inline for name, drawn in figures.items()},
        explorer=found,
        prices_known=found is not None and pair_prices_known(found),
        script=script,
        content_policy=content_policy(script),
        w=words,
        baseline_names=[BASELINE_NAMES.get(name, name) for name in names],
        metric_rows=metric_rows(manifest, evaluation, names),
        slice_tables=slice_tables(evaluation),
        weaknesses=weaknesses,
        calibration=calibration_sentence(evaluation),
        default=next((policy for policy in manifest.policies if policy.name == manifest.default_policy), None),
        weak_alone=_weak_alone(evaluation),
        learning=learning_sentence(evaluation),
        first_figures=flat(evaluation),
        constant=[one.name for one in evaluation.drift if one.sd == 0],
        **looks_context(looks, manifest.pair),
        measures={"p_match": "probability that the weak model does as well", **STRUCTURAL},
    )


def content_policy(script: str) -> str:
    """Return the page's Content-Security-Policy: nothing is loaded, and no script runs but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def metric_rows(manifest: Manifest, evaluation: Evaluation, baselines: list[str]) -> list[MetricRow]:
    """Return the metrics table: router, interval, and each baseline named."""
    router = flat(evaluation)
    columns = [flat(evaluation.baselines[name]) for name in baselines]
    rows = []
    for name, title, meaning, as_percent in _METRICS:
        show = words.percent if as_percent else words.number
        rows.append(
            MetricRow(
                name=title,
                meaning=meaning.format(weak=manifest.pair.weak, strong=manifest.pair.strong),
                router=show(router[name]),
                interval=words.between(evaluation.intervals.get(name), as_percent=as_percent),
                baselines=[show(column[name]) for column in columns],
            )
        )
    return rows


def calibration_sentence(evaluation: Evaluation) -> str:
    """What the reliability plot means, in one sentence."""
    error, floor = evaluation.ece, evaluation.ece_floor
    if error is None or floor is None:
        return "There is no calibration to show."
    verdict = (
        "no more than chance alone would show on so many rows"
        if error <= 1.5 * floor
        else "more than chance alone would show, so read p_match with that much tolerance"
    )
    return (
        f"When the router says 90\u00a0%, about 90 of 100 such requests should match: on average it is off by "
        f"{100 * error:.1f} percentage points (a perfect router would show {100 * floor:.1f}), {verdict}."
    )


def _weak_alone(evaluation: Evaluation) -> float | None:
    ratio = evaluation.curves.cost_quality.baselines.get("always_weak")
    return None if ratio is None else ratio[0]


def learning_sentence(evaluation: Evaluation) -> str:
    """What the learning curve says about collecting more rows, in one sentence; empty without a curve."""
    curve = evaluation.learning_curve
    if curve is None:
        return ""
    every = words.count(curve.points[-1].rows)
    if curve.enough_rows is None:
        return f"Every step up to {every} rows still helped: more labelled rows are likely to help further."
    return f"Some {words.count(curve.enough_rows)} rows to learn from do as well as {every}, within the noise."


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """Return what holds the templates; compiling them takes longer than a page."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
