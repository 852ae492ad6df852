"""Every command is there, and says what each of its options is for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from tests.contract.conftest import Turnout
from turnout.serving.cli import app as cli
from turnout.serving.cli.models_cli import models_app, rollback
from turnout.training.cli.app import add_commands

COMMANDS = [
    "assess",
    "bundle",
    "bundle show",
    "bundle sign",
    "bundle verify",
    "doctor",
    "drift",
    "encoder",
    "encoder export",
    "evaluate",
    "frontier",
    "key",
    "key new",
    "label",
    "logs",
    "logs compact",
    "logs forget",
    "models",
    "models diff",
    "models list",
    "models promote",
    "models prune",
    "models publish",
    "models rollback",
    "models show",
    "predict",
    "recalibrate",
    "replay",
    "replay-policy",
    "report",
    "retrain",
    "rollback",
    "route",
    "rules",
    "rules check",
    "rules try",
    "sample",
    "savings",
    "serve",
    "spool",
    "spool show",
    "token",
    "token new",
    "top",
    "train",
]


def commands_of(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{name} ")


def whole_app() -> dict[str, Any]:
    app = typer.Typer()
    app.add_typer(cli.bundle_app, name="bundle")
    app.add_typer(cli.rules_app, name="rules")
    app.add_typer(cli.spool_app, name="spool")
    app.add_typer(models_app, name="models")
    app.command()(rollback)
    app.add_typer(cli.key_app, name="key")
    app.add_typer(cli.token_app, name="token")
    app.command()(cli.serve)
    app.command()(cli.route)
    app.command()(cli.top)
    app.command()(cli.doctor)
    add_commands(app, cli.rules_app)
    return dict(commands_of(typer.main.get_command(app)))


def test_all_commands_are_there():
    assert sorted(whole_app()) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_and_says_what_it_is_for(turnout: Turnout, command: str):
    ended = turnout(*command.split(), "--help")
    assert ended.code == 0
    assert ended.out.count("Usage: turnout") == 1
    for parameter in whole_app()[command].params:
        if parameter.name != "help":
            assert max(parameter.opts, key=len) in ended.out.lower()
            assert parameter.help, parameter.name


def test_help_of_all_lists_the_commands(turnout: Turnout):
    ended = turnout("--help")
    assert ended.code == 0
    for command in COMMANDS:
        if " " not in command:
            assert re.search(rf"\b{command}\b", ended.out)
