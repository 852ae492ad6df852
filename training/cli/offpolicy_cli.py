"""The commands that read the decision log for people: `replay-policy`, `savings`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from turnout.training.cli.options import AsJson, Quiet

DecisionLog = Annotated[
    Path, typer.Argument(help="Decision log: folder of turnout logs compact, one of its files, or a server's spool.")
]


def replay_policy(
    log: DecisionLog,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Policy of the bundle, or threshold=0.9; again for more. Without it the bundle's default."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of the bundle that has the policies. Without it: the champion.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say what other policies would have cost and lost on logged traffic, with intervals; it needs exploration.

    Inverse propensity, self-normalised and doubly robust estimates, from decisions and reported outcomes alone.
    """
    from turnout.training.cli.offpolicy import replay_policies

    replay_policies(log, policy or (), bundle, quiet=quiet, as_json=as_json)


def savings(
    log: DecisionLog,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day (UTC); without it the log's.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day (UTC), included.")
    ] = None,
    cpu_s_per_decision: Annotated[
        float, typer.Option(min=0, help="CPU seconds of one decision; turnout_worker_cpu_seconds_total says yours.")
    ] = 0.003,
    usd_per_core_hour: Annotated[
        float, typer.Option(min=0, help="What a core of the router's machine costs.")
    ] = 0.0408,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say what routing really spent and saved against sending all to the strong model, and what it did to quality.

    Net: cached tokens, cold caches after a switch, second answers and the router itself are counted.
    """
    from turnout.training.cli.savings import show_savings
    from turnout.training.offpolicy.savings.machine import Machine

    start, end = (None if moment is None else moment.date() for moment in (first, last))
    show_savings(log, start, end, Machine(cpu_s_per_decision, usd_per_core_hour), quiet=quiet, as_json=as_json)
