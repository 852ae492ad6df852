"""Parity: the exported graph of the second look held against the Python path, on the rows that taught it."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from scipy.special import expit

from turnout.serving.router.checker import CheckerModel
from turnout.serving.router.model import session_options
from turnout.training.arrays import Floats, Ints
from turnout.training.check.fit import Checker
from turnout.training.check.rows import CheckRows
from turnout.training.check.signal_head import SignalHead
from turnout.training.dataset.answers import Answers
from turnout.training.errors import DataRefused

PARITY_ROWS = 300
PARITY_TOLERANCE = 1e-5


def check_parity(graph: bytes, checker: Checker, head: SignalHead, answers: Answers, rows: CheckRows) -> None:
    """Compare both heads on some rows: from their texts as served, or from their features where they have no text.

    Raises:
        DataRefused: a probability differs by more than 1e-5.
    """
    n = rows.shape.size
    some = np.arange(0, n, max(1, n // PARITY_ROWS))
    found = _of_features(graph, rows, some) if answers.texts is None else _of_texts(graph, answers, rows, some)
    few = rows.take(some)
    expected = np.column_stack((expit(checker.log_odds(few)), expit(head.log_odds(few))))
    differences = np.abs(found - np.where(np.isnan(expected), found, expected))
    worst = np.unravel_index(int(differences.argmax()), differences.shape)
    if differences[worst] > PARITY_TOLERANCE:
        raise DataRefused(
            f"the second look's graph gives {found[worst]:.6f} where the Python path gives {expected[worst]:.6f}; "
            "report this as a defect"
        )


def _of_texts(graph: bytes, answers: Answers, rows: CheckRows, some: Ints) -> Floats:
    model, texts = CheckerModel(graph, answers.ngrams), answers.texts or []
    found = []
    for row in some.tolist():
        (prompt, answer, signals), first = texts[row], float(rows.first[row])
        found.append([model.check(prompt, answer, signals, first, unlike).p_match for unlike in (False, True)])
    return np.array(found)


def _of_features(graph: bytes, rows: CheckRows, some: Ints) -> Floats:
    session = ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])
    found = []
    for row in some.tolist():
        counts = rows.counts[row]
        inputs = {
            "buckets": counts.indices.astype(np.int64),
            "counts": counts.data.astype(np.float32),
            "structure": rows.structure[row].astype(np.float32),
            "shape": np.array(rows.shape[row], np.int64),
            "first": np.array(rows.first[row], np.float32),
            "signals": rows.signals[row].astype(np.float32),
        }
        found.append([float(value) for value in session.run(["p_checker", "p_signals"], inputs)])
    return np.array(found)
