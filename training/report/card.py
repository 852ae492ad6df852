"""Card: what a bundle is for and what it is worth, in a page of Markdown beside it."""

from __future__ import annotations

import msgspec

from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import Policy
from turnout.serving.router.unseen import said_of
from turnout.training.evaluation.evaluation import Evaluation, Slice, Slices
from turnout.training.policy.policy import DELTA, SOLVED_DELTA

MIN_SLICE_ROWS = 100
"""A slice of fewer rows says more of chance than of the router."""
N_WEAKEST = 5

_FIGURES = {
    "auroc": "AUROC of p_match on match",
    "auroc_within_source": "the same within each source",
    "apgr": "APGR",
    "share_at_quality.0.99": "share to the weak model at 99 % of the strong one's quality",
    "ece": "ECE (15 bins of equal mass)",
    "ece_floor": "ECE that a perfect router would show at this size",
    "brier": "Brier score",
    "log_loss": "log loss",
}


def render_card(manifest: Manifest, evaluation: Evaluation) -> str:
    """Return the card as Markdown; every figure is from rows that nothing it judges was fitted on."""
    pair, training = manifest.pair, manifest.training
    synthetic = (
        "\n**Trained on synthetic data: it shows that everything works, and says nothing of real traffic.**\n"
        if manifest.synthetic
        else ""
    )
    return f"""# {manifest.bundle_id}
{synthetic}
Estimates, for each request, the probability that {pair.weak} answers it at least as well as {pair.strong}
(`p_match`; both wrong counts as a match), and routes by a policy on it.

## Data
{_ancestry(manifest)}{sum(training.rows.values())} labelled requests in {sum(training.groups.values())} groups,
match rate {training.match_rate:.3f}; labelled by {_listed(training.labellers)}.
Rows by part: {_listed(training.rows)}. SHA-256 of the logs: `{training.data_sha256}`.
The bundle holds weights and figures; of the logs it keeps salted 8-byte digests of the groups it has seen, no text.
{_note(training.note)}
## Figures on {"the new rows" if _is_recalibrated(manifest) else "all rows"}, each answered without its group
| figure | value | 95 % interval |
| --- | --- | --- |
{_figures(manifest)}

{_weak_slices(evaluation.slices, manifest)}{_verdict(manifest)}## Policies
Served unless a request names another: `{manifest.default_policy}`{_reason(manifest)}.

| policy | threshold | to {pair.weak} | quality kept | made worse | bound | USD per 1,000 |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(_policy(policy) for policy in manifest.policies)}

Bounds, and the quality that `min_quality` names, hold with probability {1 - DELTA:.0%} for groups exchangeable with
these rows, and for no other traffic. They are shown for the fits that answered the rows; for the fit on all rows that
is served, an allowance of {DELTA - SOLVED_DELTA:.2f} has held in simulation, and nothing proves it. Costs are the
models' own at the prices of that day, without discounts.
{_ladder(manifest, evaluation)}{_second_look(manifest)}
## Model
Encoder {manifest.encoder.name} ({manifest.encoder.dim} dimensions, {manifest.encoder.max_tokens} word pieces) beside
hashed word-piece n-grams and structural measures; one logistic regression ({_listed(training.settings)}),
calibrated by {manifest.calibrator}. Prompts lose harness text by rules of version {manifest.harness_rules} (0: none).

## Limits
A router learns the traffic that it has seen: on other traffic expect little better than chance, and retrain.
{_unseen(evaluation)}{_fallback(manifest)}Whatever fails, the caller uses {pair.strong}: that costs money, never \
quality.
"""


def _reason(manifest: Manifest) -> str:
    return f": {manifest.default_reason}" if manifest.default_reason else ""


def _unseen(evaluation: Evaluation) -> str:
    said = said_of(evaluation.unseen)
    return f"{said}\n" if said else ""


def _note(note: str) -> str:
    return f"\n{note}\n" if note else ""


def _weak_slices(slices: Slices, manifest: Manifest) -> str:
    """Return where most quality is lost, and where the ranking may be no better than chance; empty for small logs."""
    kinds = {"task": slices.task, "source": slices.source, "language": slices.language}
    named = [
        (f"{kind} {one.name}", one)
        for kind, found in kinds.items()
        for one in found
        if one.name and one.n >= MIN_SLICE_ROWS and one.drop is not None
    ]
    if not named:
        return ""
    weakest = sorted(named, key=lambda pair: pair[1].drop or 0.0, reverse=True)[:N_WEAKEST]
    by_chance = [name for name, one in named if (bounds := one.intervals.get("auroc")) and bounds[0] <= 0.5]
    lines = [_slice(name, one) for name, one in weakest]
    chance = f"The 95 % interval of AUROC reaches 0.5 on: {', '.join(by_chance)}.\n" if by_chance else ""
    return f"""## Where it is weak
Of the slices with {MIN_SLICE_ROWS} rows or more, those that lose most against {manifest.pair.strong} under
`{manifest.default_policy}`; the report has all of them, by length and depth too.

| slice | rows | match rate | AUROC | to {manifest.pair.weak} | quality lost | 95 % interval |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(lines)}

{chance}
"""


def _slice(name: str, one: Slice) -> str:
    bounds = one.intervals.get("drop")
    cells = (
        name,
        str(one.n),
        f"{one.match_rate:.1%}",
        "undefined" if one.auroc is None else f"{one.auroc:.3f}",
        f"{one.share_weak or 0.0:.1%}",
        f"{one.drop or 0.0:.2%}",
        f"{bounds[0]:.2%} to {bounds[1]:.2%}" if bounds else "",
    )
    return f"| {' | '.join(cells)} |"


def _is_recalibrated(manifest: Manifest) -> bool:
    return manifest.parent is not None and manifest.verdict is None


def _ancestry(manifest: Manifest) -> str:
    if manifest.verdict is not None:
        return f"Retrained to follow `{manifest.parent}`, on rows old and new. "
    if manifest.parent is None:
        return ""
    return f"""Recalibrated from `{manifest.parent}`, whose regression and encoder it keeps: its card says what
they were trained on. The rows here calibrated them again and solved the policies. Calibration figures are
cross-fitted (the same procedure on four fifths of the groups, judged on the fifth it never saw); ranking figures are
the full head's, which recalibration leaves in order.
"""


def _verdict(manifest: Manifest) -> str:
    """Return how the bundle did against the champion of its day; empty where it was held against none."""
    verdict = manifest.verdict
    if verdict is None:
        return ""
    said = "every check is met" if verdict.is_met else "not every check is met"
    forced = ", and it was to be promoted by force" if verdict.is_forced else ""
    lines = [
        f"| {check.name} {check.where} | {_plain(check.champion)} | {_plain(check.challenger)} | "
        f"{_plain(check.figure)} | {_plain(check.limit)} | {'yes' if check.is_met else 'no'} |"
        for check in verdict.checks
    ]
    return f"""## Against the champion
Held against `{verdict.champion}` under `{verdict.policy}`, on {verdict.rows} rows in {verdict.groups} groups that
neither learned from: {said}{forced}.

| check | champion | this one | figure | limit | met |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(lines)}

"""


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _fallback(manifest: Manifest) -> str:
    rule = manifest.out_of_distribution
    if rule is None:
        return ""
    return f"""A request is out of distribution when more than {rule.limit:.1%} of its distinct n-grams stand in
fewer than {rule.rare_below} rows of the fit part. It goes to {manifest.pair.strong}, under every policy:
{rule.share_test:.1%} of the rows judged here. What is new in substance but not in words is not noticed.
"""


def _figures(manifest: Manifest) -> str:
    lines = []
    for key, name in _FIGURES.items():
        value = manifest.metrics.get(key)
        low_high = manifest.intervals.get(key)
        interval = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else ""
        lines.append(f"| {name} | {'undefined' if value is None else f'{value:.3f}'} | {interval} |")
    return "\n".join(lines)


def _second_look(manifest: Manifest) -> str:
    """Return what the card says of the second look; nothing where there is none."""
    look = manifest.second_look
    if look is None:
        return ""
    rows = [("all answers", look.n, look.metrics, look.intervals)]
    if look.metrics_signals:
        rows.append(("answers with a signal", look.n_signals, look.metrics_signals, look.intervals_signals))
    names = ("auroc", "auroc_within_source", "apgr", "ece", "share_at_quality.0.99")

    def cell(name: str, metrics: dict[str, float | None], intervals: dict[str, tuple[float, float]]) -> str:
        value, bounds = metrics.get(name), intervals.get(name)
        if value is None:
            return ""
        return f"{value:.3f}" if bounds is None else f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})"

    figures = "\n".join(
        f"| {title} | {n} | " + " | ".join(cell(name, metrics, intervals) for name in names) + " |"
        for title, n, metrics, intervals in rows
    )
    checked = "\n".join(
        f"| {policy.name} | {policy.checked.share_answered_weak:.1%} | {policy.checked.share_escalated:.1%} | "
        f"{policy.checked.share_worse:.4f} | {policy.checked.cost_ratio:.2f} |"
        for policy in manifest.policies
        if policy.checked is not None and policy.checked.is_met
    )
    return f"""
## Second look
For callers that let the weak model answer first and have its answer checked. Learned from {look.rows} answers,
{look.signals} of them with a signal (log-probability or self-check) of {look.sources} sources; every figure is of
answers told by fits without their group.

| rows | n | AUROC | within source | APGR | ECE | share at 99 % |
| --- | --- | --- | --- | --- | --- | --- |
{figures}

| policy | answered by the weak model | wait for both | made worse | cost, all strong = 1 |
| --- | --- | --- | --- | --- |
{checked}
"""


def _ladder(manifest: Manifest, evaluation: Evaluation) -> str:
    """Return what the card says of more than two models; nothing for a pair."""
    ladder = evaluation.ladder
    if ladder is msgspec.UNSET:
        return ""
    names = [rung.name for rung in ladder.rungs]
    rungs = "\n".join(
        f"| {one.name} | {one.rows} | {_percent(one.match_rate)} | {_with_interval(rung, 'auroc')} | "
        f"{_with_interval(rung, 'auroc_within_source')} | {_with_interval(rung, 'ece')} | {_percent(one.worse)} | "
        f"{_three(one.quality)} | {_three(one.cost)} |"
        for one, rung in zip(ladder.rungs, manifest.ladder, strict=True)
    )
    policies = "\n".join(
        f"| {one.policy}{'' if one.is_met else ' (not met)'} | {one.looks} | "
        + " | ".join(f"{share:.1%}" for share in one.shares)
        + f" | {one.waits_twice:.1%} | {one.worse:.4f} | {_three(one.quality)} | {_three(one.cost)} |"
        for one in ladder.policies
    )
    return f"""
## Ladder
The figures above are of the two ends, {names[0]} and {names[-1]}; slices count what {names[0]} answers. Policies are
solved over all rungs: what {names[0]} does not get goes to the first rung between whose own p reaches the policy's,
else to {names[-1]}. Worse is worse than {names[-1]}. Worse, quality and cost are of the {ladder.n} rows in
{ladder.n_groups} groups that hold an outcome of every rung; costs where all to {names[-1]} is 1, at the prices of that
day.

| rung | rows | not worse | AUROC | within source | ECE | worse alone | quality alone | cost alone |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{rungs}

| policy | looks | {" | ".join(names)} | wait for two | worse | quality | cost |
| --- | --- | {" | ".join("---" for _ in names)} | --- | --- | --- | --- |
{policies}
"""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _with_interval(rung: Rung, name: str) -> str:
    value, bounds = rung.metrics.get(name), rung.intervals.get(name)
    if value is None:
        return ""
    return f"{value:.3f}" if bounds is None else f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})"


def _policy(policy: Policy) -> str:
    quality = "" if policy.quality_kept is None else f"{policy.quality_kept:.3f}"
    bound = "" if policy.share_worse_bound is None else f"{policy.share_worse_bound:.4f}"
    how = "all strong" if policy.threshold == 1.0 else "more than that is out of distribution"
    name = policy.name if policy.is_met else f"{policy.name} (not met: {how})"
    cost = "" if policy.cost_usd_per_1k is None else f"{policy.cost_usd_per_1k:.3g}"
    shares = (f"{policy.threshold:.3f}", f"{policy.share_weak:.1%}", quality, f"{policy.share_worse:.4f}")
    return f"| {' | '.join((name, *shares, bound, cost))} |"


def _listed(counts: dict[str, int] | dict[str, float | int | str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in counts.items())
