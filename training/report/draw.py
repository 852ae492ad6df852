"""All figures of a report by name; what an older bundle's evaluation lacks is not drawn."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from turnout.serving.bundles.manifest import Manifest, Pair
from turnout.training.evaluation.evaluation import Evaluation
from turnout.training.evaluation.looks import TwoLooks
from turnout.training.report.figures import draw_cost_quality, draw_p_match, draw_reliability
from turnout.training.report.learning import draw_learning_curve
from turnout.training.report.looks import draw_rests_on, draw_second_reliability, draw_two_looks
from turnout.training.report.spread import draw_drift
from turnout.training.report.style import STYLE, SavedFigure, save


def draw_all(manifest: Manifest, evaluation: Evaluation) -> dict[str, SavedFigure]:
    """Return `cost_quality`, `reliability`, `p_match`, and where known `learning_curve`, `drift` and two looks."""
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
        if evaluation.two_looks is not None:
            figures |= _of_two_looks(evaluation.two_looks, manifest.pair)
        return {name: save(figure, name) for name, figure in figures.items()}


def _of_two_looks(looks: TwoLooks, pair: Pair) -> dict[str, Figure]:
    figures = {"two_looks": draw_two_looks(looks, pair)}
    if looks.kinds:
        figures["second_reliability"] = draw_second_reliability(looks)
    rests_on = draw_rests_on(looks)
    return figures if rests_on is None else figures | {"rests_on": rests_on}
