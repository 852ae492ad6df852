"""How training commands show what they made: figures, policies, and where everything lies."""

from __future__ import annotations

import msgspec
from rich.table import Table

from turnout.serving.cli.tables import console, figures_table, policies_table
from turnout.training.evaluation.evaluation import Evaluation
from turnout.training.evaluation.figures import flat
from turnout.training.evaluation.ladder import LadderFigures
from turnout.training.evaluation.looks import LookOutcome, TwoLooks
from turnout.training.learn.train import Trained

SHOWN_BASELINES: tuple[str, ...] = ("parent", "encoder_lr", "prompt_length", "random", "oracle")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures with their intervals, the baselines beside them."""
    shown = [name for name in SHOWN_BASELINES if name in evaluation.baselines]
    seen = f"{evaluation.n_seen_in_training} rows seen in training"
    out = f"{evaluation.share_out_of_distribution:.1%}"
    title = f"{evaluation.n} rows, match rate {evaluation.match_rate:.3f}; {seen}; {out} out of distribution"
    baselines = {name: flat(evaluation.baselines[name]) for name in shown}
    console().print(figures_table(title, flat(evaluation), evaluation.intervals, baselines))
    if evaluation.two_looks is not None:
        print_looks(evaluation.two_looks)
    if evaluation.ladder is not msgspec.UNSET:
        print_ladder(evaluation.ladder)


def print_looks(looks: TwoLooks) -> None:
    """Print the second look's figures beside the first look's on the same answers, and where each policy lands."""
    title = f"Second look: {looks.n} answers"
    title += f"; {looks.n_unanswered} rows without an answer" if looks.n_unanswered else ""
    title += f"; {looks.n_unvouched} answers that nothing vouches for" if looks.n_unvouched else ""
    beside = {"first look": flat(looks.first)} | {
        f"signal: {kind.name}": flat(kind.metrics) for kind in looks.kinds if kind.name != "any"
    }
    console().print(figures_table(title, flat(looks.metrics), looks.intervals, beside))
    table = Table(title="Policies on these rows, one look / two looks; \u2013 where the promise is not met")
    table.add_column("policy", no_wrap=True)
    for column in ("answered by the weak model", "wait for both", "worse", "quality", "cost, all strong = 1"):
        table.add_column(column, justify="right", max_width=len("0.000 / 0.000"))
    for landing in looks.landings:
        both = (landing.one_look, landing.two_looks)
        table.add_row(landing.policy, *(_both(both, name) for name in OUTCOMES))
    console().print(table)


OUTCOMES = ("answered_weak", "waits_twice", "worse", "quality", "cost")


def _both(outcomes: tuple[LookOutcome | None, LookOutcome | None], name: str) -> str:
    values = [None if one is None else getattr(one, name) for one in outcomes]
    return " / ".join("\u2013" if value is None else f"{value:.3f}" for value in values)


def print_ladder(ladder: LadderFigures) -> None:
    """Print what each rung is worth, and what share each policy gives it."""
    table = Table(title=f"Rungs, on {ladder.n} rows in {ladder.n_groups} groups with an outcome of each")
    table.add_column("rung", no_wrap=True)
    for column in ("rows", "not worse", "AUROC", "ECE", "worse alone", "quality alone", "cost alone"):
        table.add_column(column, justify="right")
    for one in ladder.rungs:
        known = (_shown(one.figures.get(name), one.intervals.get(name)) for name in ("auroc", "ece"))
        alone = map(_shown, (one.worse, one.quality, one.cost))
        matched = "\u2013" if one.match_rate is None else f"{one.match_rate:.1%}"
        table.add_row(one.name, str(one.rows), matched, *known, *alone)
    console().print(table)
    table = Table(title=f"Policies over all rungs; worse, quality and cost against {ladder.rungs[-1].name}")
    for column in ("policy", "looks", *(one.name for one in ladder.rungs), "wait for two", "worse", "quality", "cost"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for policy in ladder.policies:
        if policy.is_met:
            shares = (f"{share:.1%}" for share in (*policy.shares, policy.waits_twice))
            worse, cost = _shown(policy.worse, policy.worse_interval), _shown(policy.cost, policy.cost_interval)
            table.add_row(policy.policy, str(policy.looks), *shares, worse, _shown(policy.quality), cost)
    console().print(table)


def _shown(value: float | None, interval: tuple[float, float] | None = None) -> str:
    if value is None:
        return "\u2013"
    return f"{value:.3f}" if interval is None else f"{value:.3f}\n{interval[0]:.3f} to {interval[1]:.3f}"


def print_trained(trained: Trained, *, as_json: bool) -> None:
    """Print figures, policies and where everything lies, as tables or as JSON."""
    out = trained.folder
    if as_json:
        print(_result_json(trained))
        return
    manifest = trained.manifest
    print_evaluation(trained.evaluation)
    console().print(policies_table(manifest))
    print(f"default policy {manifest.default_policy}: {manifest.default_reason}")
    print(trained.carries)
    if trained.n_quarantined:
        print(f"{trained.n_quarantined} rows in quarantine: {out.parent / f'{out.name}.quarantine.jsonl'}")
    if trained.unlabelled:
        print("without a label: " + ", ".join(f"{why} {count}" for why, count in trained.unlabelled.items()))
    if manifest.synthetic:
        print("Trained on SYNTHETIC rows: these figures say nothing of real traffic.")
    if manifest.parent and manifest.verdict is None:
        print(f"recalibrated from {manifest.parent} by {manifest.calibrator}; ece, brier and log loss are cross-fitted")
    print(f"bundle {manifest.bundle_id}: {out}\nreport: {out / 'report' / 'index.html'}")


def _result_json(trained: Trained) -> str:
    result = {
        "bundle": str(trained.folder),
        "bundle_id": trained.manifest.bundle_id,
        "parent": trained.manifest.parent,
        "n_seen_in_training": trained.evaluation.n_seen_in_training,
        "metrics": trained.manifest.metrics,
        "intervals": trained.manifest.intervals,
        "policies": trained.manifest.policies,
        "default_policy": trained.manifest.default_policy,
        "default_reason": trained.manifest.default_reason,
        "carries": trained.carries,
        "quarantined": trained.n_quarantined,
        "unlabelled": trained.unlabelled,
    }
    return msgspec.json.encode(result).decode()
