"""Label noise: what the labellers' own doubt leaves for any router to reach.

Comes in: labels and the probability that each is right. Goes out: `LabelNoise`, or None where every labeller was
certain (scores are the operator's own measure) and the noise is unknown.
"""

from __future__ import annotations

import numpy as np

from turnout.training.arrays import Floats, Ints
from turnout.training.evaluation.evaluation import LabelNoise


def label_noise(match: Ints, confidence: Floats | None) -> LabelNoise | None:
    """Return the ceiling of AUROC; both arrays are (n,).

    A router that knew the true outcome has two values of `p_match`. Its AUROC is (1 + TPR - FPR) / 2, where TPR is the
    mean confidence of the rows labelled match, and FPR one less that of the others. None too with one class.
    """
    if confidence is None or np.unique(match).size < 2 or not (confidence < 1).any():
        return None
    right_match, right_miss = (float(confidence[match == label].mean()) for label in (1, 0))
    return LabelNoise(
        mean_confidence=float(confidence.mean()),
        n_uncertain=int((confidence < 1).sum()),
        auroc_ceiling=(right_match + right_miss) / 2,
    )
