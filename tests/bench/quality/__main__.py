"""Quality beside other routers: one table for each `FILE[,source=NAME][,hold-out=KEY][,strong=NAME,weak=NAME]`.

    python -m tests.bench.quality TABLES... [--scores FILE] [--wide] [--frontier] [--seed 0] [--json FILE]
        [--without NAME] [--answers DIR] [--out DIR]

Five folds; every router learns on the same training rows and answers the same held-out ones, ours with settings,
calibrators and exit band chosen inside the fold. All folds pooled; 95 % intervals over groups. Dense vectors are
cached on disk, so a second run only fits. `--scores` adds a row: ours, trained with them.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from tests.bench.quality.apart import APART, LITELLM, litellm_heuristics
from tests.bench.quality.figures import Answers, compare
from tests.bench.quality.kept import KeptAnswers
from tests.bench.quality.ours import answer, fit_ours, strangers
from tests.bench.quality.printed import frontier_markdown, markdown
from tests.bench.quality.questions import N_FOLDS, Fold, Questions, Spec, load_questions
from tests.bench.quality.routers import ROUTERS
from turnout.serving.bundles.registry import find_encoder
from turnout.training.assess.frontier import FrontierPoint, FrontierRows, measure_frontier
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.evaluation.baselines import oracle, prompt_length, random
from turnout.training.progress import Reporter
from turnout.training.report.frontier import write_frontier

OURS, FULL = "**Turnout's ranking**", "Turnout, encoder on every prompt"
SCORED = "Turnout, trained with --scores"
FALLBACK = "Turnout as served, fallback included"


def main() -> None:
    """Print one table a data set, and the frontier of parts of the first where asked."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("tables", type=Spec.parse, nargs="+")
    arguments.add_argument("--scores", type=Path, help="other models' scores, as `turnout train --scores` takes them")
    arguments.add_argument("--wide", action="store_true", help="our settings from the wide grid and both forms")
    arguments.add_argument("--frontier", action="store_true", help="quality of our parts against microseconds")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--out", type=Path, help="folder of the frontier's PNG and SVG")
    arguments.add_argument("--without", action="append", default=[], help="leave this router out, by its name's start")
    arguments.add_argument("--answers", type=Path, help="folder that keeps answers, so that a killed run goes on")
    given = arguments.parse_args()
    reporter, results = Reporter(), {}
    for spec in given.tables:
        questions = load_questions(spec, given.scores, reporter)
        result = measure(
            questions, given.seed, KeptAnswers(given.answers), given.without, wide=given.wide, reporter=reporter
        )
        print(markdown(spec.title, spec.source, result), flush=True)
        if given.frontier and spec is given.tables[0]:
            points = frontier(questions, given.seed, reporter)
            print(frontier_markdown(points), flush=True)
            result["frontier"] = msgspec.to_builtins(points)
            if given.out:
                write_frontier(points, given.out)
        results[spec.title] = result
        if given.json:
            given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def measure(
    questions: Questions, seed: int, kept: KeptAnswers, without: list[str], *, wide: bool, reporter: Reporter
) -> dict:
    """Return figures of every router on one table, and which were left out and why."""
    asked_away = [name for name in ROUTERS | APART if name.startswith(tuple(without))]
    absent = {name: one.folder for name, (one, _) in APART.items() if not one.is_there and name not in asked_away}
    left_out = [*asked_away, *(f"{name} (no {folder})" for name, folder in absent.items())]
    every = ROUTERS | {name: ask for name, (_, ask) in APART.items()}
    fitted = {name: ask for name, ask in every.items() if name not in {*asked_away, *absent}}
    found = {name: np.empty(questions.rows.size) for name in fitted}
    variants = {OURS: False} | ({SCORED: True} if questions.difficulty else {})
    ours = {name: np.empty((3, questions.rows.size)) for name in variants}
    goes_strong = np.zeros(questions.rows.size, dtype=bool)

    def asked(with_scores: bool, fold: Fold) -> np.ndarray:
        router, settings = fit_ours(fold, wide=wide, with_scores=with_scores)
        reporter.say(f"Ours chose {settings}")
        return answer(router, fold)

    with reporter.stage("Fitting all routers on all folds", N_FOLDS * (len(fitted) + len(variants))) as advance:
        for fold in questions.folds(seed):
            goes_strong[fold.test] = strangers(fold)
            for name, with_scores in variants.items():
                key = f"ours by threshold, {wide=}" + ", with scores" * with_scores
                ours[name][:, fold.test] = kept.of(key, fold, partial(asked, with_scores))
                advance(1)
            for name, ask in fitted.items():
                found[name][fold.test] = np.clip(kept.of(name, fold, ask), 0.0, 1.0)
                advance(1)
    found[FULL] = ours[OURS][2]
    answers = {name: Answers(routes_by, p_match) for name, (routes_by, p_match, _) in ours.items()}
    answers[FALLBACK] = Answers(ours[OURS][0] - goes_strong, ours[OURS][1])
    answers |= {name: Answers(p_match, p_match) for name, p_match in found.items()}
    answers |= _rankings(questions, ours[OURS][0], seed)
    if LITELLM.is_there:
        answers |= {name: Answers(ease) for name, ease in litellm_heuristics(questions).items()}
    else:
        left_out.append(f"LiteLLM's heuristics (no {LITELLM.folder})")
    with reporter.stage("Measuring, 1,000 draws of groups"):
        routers = compare(questions, answers, {"ranking_less_it": OURS, "served_less_it": FALLBACK}, seed)
    by_apgr = sorted(routers.items(), key=lambda one: (one[0] != OURS, -(one[1]["figures"]["apgr"] or 0.0)))
    n = int(questions.rows.size)
    return {"n": n, "seed": seed, "left_out": left_out, "routers": dict(by_apgr)}


def frontier(questions: Questions, seed: int, reporter: Reporter) -> list[FrontierPoint]:
    """Return what each of our parts adds, and takes, on the rows of one table."""
    rows, encoder = FrontierRows.of(questions.data, questions.rows), load_encoder(find_encoder(DEFAULT_ENCODER))
    return measure_frontier(rows, [(encoder, questions.table)], seed, reporter)


def _rankings(questions: Questions, ours: np.ndarray, seed: int) -> dict[str, Answers]:
    """What needs no fit; the shuffle gives each row the answer of another, so that it costs what ours costs."""
    length = np.array([len(text) for text in questions.texts], dtype=np.float64)
    baselines = {
        "random": random(questions.match),
        "prompt length": prompt_length(length),
        "oracle": oracle(questions.strong_score, questions.weak_score),
    }
    shuffled = np.random.default_rng(seed).permutation(ours)
    ranked = {name: Answers(one.rank_by) for name, one in baselines.items()}
    return ranked | {"ours shuffled over the rows (same cost)": Answers(shuffled)}


if __name__ == "__main__":
    main()
