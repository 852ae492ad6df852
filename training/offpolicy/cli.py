"""The commands that read the decision log for people: `replay-policy`, `savings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.options import AsJson, Quiet

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
    from training.offpolicy.commands import replay_policies

    replay_policies(log, policy or (), bundle, quiet=quiet, as_json=as_json)
