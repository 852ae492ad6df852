"""All figures of a report by name; what an older bundle's evaluation lacks is not drawn."""

from __future__ import annotations

import matplotlib as mpl

from turnout.serving.bundles.bundle import Manifest
from turnout.training.evaluation.evaluation import Evaluation
from turnout.training.report.figures import draw_cost_quality, draw_p_match, draw_reliability
from turnout.training.report.learning import draw_learning_curve
from turnout.training.report.spread import draw_drift
from turnout.training.report.style import STYLE, Drawn, save


def draw_all(manifest: Manifest, evaluation: Evaluation) -> dict[str, Drawn]:
    """Return `cost_quality`, `reliability`, `p_match`, and where known `learning_curve` and `drift`."""
    with mpl.rc_context(STYLE):
        figures = {
            "cost_quality": draw_cost_quality(manifest, evaluation),
            "reliability": draw_reliability(evaluation),
            "p_match": draw_p_match(manifest, evaluation),
        }
        if evaluation.learning_curve is not None:
            figures["learning_curve"] = draw_learning_curve(evaluation.learning_curve, manifest.pair)
        if evaluation.drift:
            figures["drift"] = draw_drift(evaluation.drift)
        return {name: save(figure, name) for name, figure in figures.items()}
