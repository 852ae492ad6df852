"""What a router learns from labels made of answers and references, beside the sources' own scores.

    python -m tests.bench.labels_learned TABLE [--jobs 1]

TABLE is a Parquet table with both answers, both scores and references. On the rows that the reference labeller can
tell (scores unseen) one router learns from its labels, one from the scores, with the same settings and grouped
folds; both are measured out of fold against the scores. Rows without such a label are left out of both. Prints
figures, never texts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tests.bench.quality.questions import Questions, Spec, load_questions
from turnout.training.evaluation import metrics
from turnout.training.evaluation.metrics import Ranking, SourceRanking
from turnout.training.fit.fit import FitSettings
from turnout.training.fit.out_of_fold import LessonRows, out_of_fold
from turnout.training.labels.reference import ReferenceLabeller
from turnout.training.labels.usable import label_by_use
from turnout.training.progress import Reporter


def made_labels(questions: Questions) -> np.ndarray:
    """Return (n,) the labels made from answers and references, -1 where there is none."""
    labeller, made = ReferenceLabeller(), np.full(questions.rows.size, -1)
    for place, row in enumerate(questions.rows):
        record = questions.data.rows[row].record
        if (label := labeller(record) or label_by_use(record)) is not None:
            made[place] = label.match
    return made


def figures(questions: Questions, told: np.ndarray, log_odds: np.ndarray) -> tuple[float | None, ...]:
    """Return AUROC, AUROC within source and APGR of a ranking, against the sources' scores."""
    source = [questions.source[place] for place in told]
    match = questions.match[told].astype(np.float64)
    curve = metrics.quality_curve(Ranking.of(log_odds), questions.strong_score[told], questions.weak_score[told])
    within = metrics.auroc_within_source(SourceRanking.of(log_odds, source), match)
    return metrics.auroc(Ranking.of(log_odds), match), within.auroc, metrics.apgr(curve)


def main() -> None:
    """Print one line a source of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    questions = load_questions(Spec(options.table), None, Reporter())
    made = made_labels(questions)
    told = np.flatnonzero(made >= 0)
    by_score = questions.match[told]
    same = float(np.mean(made[told] == by_score))
    print(f"{told.size} of {made.size} rows labelled from answers and references; {same:.4%} as by the scores")
    print(f"match rate {made[told].mean():.4f} as labelled, {by_score.mean():.4f} by the scores")
    print("| labels | AUROC | within source | APGR |\n| --- | ---: | ---: | ---: |")
    for name, match in {"the sources' scores": by_score, "answers and references": made[told]}.items():
        lessons = LessonRows(questions.table.take(told), {"binary": match}, match, questions.group[told])
        found = out_of_fold(lessons, [FitSettings(form="binary")], n_jobs=options.jobs)
        cells = [f"{value:.4f}" if value is not None else "" for value in figures(questions, told, found.full)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
