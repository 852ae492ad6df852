"""`turnout replay-policy`: what other policies would have cost and lost on a log, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.table import Table

from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.cli.tables import console
from turnout.training.cli.options import OUTPUT, Flat, OutputFormat
from turnout.training.errors import DataRefused
from turnout.training.offpolicy.candidates import Scored, candidates, named_policies, scored_by
from turnout.training.offpolicy.estimators import Estimate, Estimates
from turnout.training.offpolicy.log import read_decisions
from turnout.training.offpolicy.replay import MIN_SESSIONS, PolicyReplay, Replay, replay
from turnout.training.offpolicy.rows import LoggedRows, logged_rows
from turnout.training.progress import Reporter

DecisionLog = Annotated[
    Path, Parameter(help="Decision log: folder of turnout logs compact, one of its files, or a server's spool.")
]


def replay_policy(
    log: DecisionLog,
    /,
    *,
    policy: tuple[str, ...] = (),
    bundle: Path | None = None,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Say what other policies would have cost and lost on logged traffic, with intervals; it needs exploration.

    Policies over three actions are valued on what their callers had checked: tries, verdicts, discarded answers.
    Answers that another bundle checked are shown to this one's second look, where the log kept them.

    Inverse propensity, self-normalised and doubly robust estimates, from decisions and reported outcomes alone.

    Args:
        policy: Policy of the bundle, or threshold=0.9; again for more. Without it the bundle's default.
        bundle: Folder of the bundle that has the policies. Without it: the champion.
    """
    replay_policies(log, policy, bundle, quiet=output.quiet, as_json=output.as_json)


def replay_policies(log: Path, policies: Sequence[str], bundle: Path | None, *, quiet: bool, as_json: bool) -> None:
    """Print what policies would have cost and lost on a log.

    Raises:
        DataRefused: the log can't be read, or holds no decision that the bundle has a p_match for.
        UnknownName: the bundle has no such policy.
    """
    folder = find_bundle(bundle)
    manifest = read_manifest(folder)
    wanted = named_policies(manifest, policies)
    reporter = Reporter(quiet=quiet)
    with reporter.stage("Reading the log"):
        rows = rows_of(log)
    with reporter.stage("Replaying"):
        scored = scored_by(rows, folder, manifest, lambda: read_decisions(log, with_texts=True))
        found = replay(scored.rows, candidates(scored, wanted))
    if as_json:
        counts: dict[str, object] = {"bundle": manifest.bundle_id, "rescored": scored.rescored}
        counts |= {"unscored": scored.unscored, "rechecked": scored.rechecked, "unread": scored.unread}
        counts |= {"other_ladders": scored.elsewhere} if scored.elsewhere else {}
        print(msgspec.json.encode(counts | msgspec.to_builtins(found)).decode())
        return
    console().print(_table(found))
    for note in _notes(found, scored, manifest.bundle_id):
        print(note)


def rows_of(log: Path) -> LoggedRows:
    """Return the rows of a log; raises `DataRefused` where there are none."""
    rows = logged_rows(read_decisions(log))
    if not len(rows):
        raise DataRefused(f"{log}: all requests are outside of a rollout, and say nothing of any policy")
    return rows


def _table(found: Replay) -> Table:
    title = f"{found.rows} requests in {found.sessions} sessions; value ± half of its 95 % interval over sessions"
    table = Table(title=title, title_justify="left")
    for name in ("policy", "by"):
        table.add_column(name, no_wrap=True)
    rungs = found.scored_rungs or ()
    shares = [f"to {name}" for name in rungs] or ["to weak"]
    for name in (*shares, "tried", "score", "score lost", "USD per 1,000", "USD saved per 1,000"):
        table.add_column(name, justify="right")
    for one in found.policies:
        for cells in _lines(one):
            table.add_row(*cells)
        table.add_section()
    return table


def _lines(one: PolicyReplay) -> list[list[str]]:
    """Return a line an estimator; what is lost and saved is doubly robust."""
    nothing = Estimates(None, None, None)
    score, usd = one.score or nothing, one.usd_per_1k or nothing
    threshold = "" if one.threshold is None else f"  threshold {one.threshold:.3f}"
    tried = f"{one.share_tried:.1%}" if one.share_tried else ""
    escalated = "" if one.share_escalated is None else f"{one.share_escalated:.0%} escalated"
    lost, saved = _shown(one.score_lost, 4), _shown(one.usd_saved_per_1k, 3)
    shares = [f"{share:.1%}" for share in one.share_rungs.values()] if one.share_rungs else [f"{one.share_weak:.1%}"]
    blank = [""] * len(shares)
    return [
        [one.policy, "DR", *shares, tried, _shown(score.dr, 3), lost, _shown(usd.dr, 3), saved],
        [threshold, "SNIPS", *blank, escalated, _shown(score.snips, 3), "", _shown(usd.snips, 3), ""],
        ["", "IPS", *blank, "", _shown(score.ips, 3), "", _shown(usd.ips, 3), ""],
    ]


def _shown(found: Estimate | None, digits: int) -> str:
    if found is None:
        return ""
    if found.high is None:
        return f"{found.value:.{digits}f}"
    return f"{found.value:.{digits}f} ± {found.high - found.value:.{digits}f}"


def _notes(found: Replay, scored: Scored, bundle_id: str) -> list[str]:
    """What a reader must know beside the table."""
    overlap = (
        f"without overlap: {found.without_overlap} of {found.rows} requests had route propensity 1 and no chance of "
        f"both answers; {found.ruled} were decided by a rule, a guard or a session, and stay there under any policy"
    )
    tiers: dict[str, float | None] = {"weak": found.scored_weak, "strong": found.scored_strong}
    shares = found.scored_rungs or tiers
    judged = ", ".join(f"{share:.1%} of the {tier}" for tier, share in shares.items() if share is not None)
    notes = [overlap, f"judged: {judged} answers; which ones is taken as chance"]
    if found.unpriced:
        notes.append(
            f"no costs: {found.unpriced} of {found.rows} requests were logged without; the price list lacked a model"
        )
    for one in found.policies:
        if one.unknown:
            notes.append(
                f"{one.policy}: nothing is known of {one.unknown} requests that it would treat otherwise, and the "
                "figures leave them out; explore (rules: [exploration]; `both` tells of other verdicts)"
            )
        if one.is_thin:
            notes.append(
                f"{one.policy}: only {one.sessions_seen} sessions show an answer that it would have moved, intervals "
                f"need some {MIN_SESSIONS}; wait for more of the log, or explore more"
            )
    if scored.rescored:
        notes.append(f"{scored.rescored} requests were decided by other bundles and scored anew by {bundle_id}")
    if scored.rechecked:
        notes.append(f"{scored.rechecked} answers were checked by other second looks, and are again by {bundle_id}'s")
    if scored.unread and any(one.share_tried for one in found.policies[2:]):
        notes.append(
            f"{scored.unread} checked answers say nothing of {bundle_id}'s second look: others checked them, and their "
            "texts were not kept (--log-decisions full)"
        )
    if scored.elsewhere:
        notes.append(f"{scored.elsewhere} requests are left out: of other models than {bundle_id}'s")
    if scored.unscored:
        notes.append(f"{scored.unscored} requests are left out: by other bundles, and their prompts were not kept")
    return notes
