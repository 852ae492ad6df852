"""Every command is there, and says what each of its options is for."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tests.contract.conftest import Turnout
from turnout.serving.cli import app as cli

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
    "models add",
    "models diff",
    "models list",
    "models promote",
    "models prune",
    "models publish",
    "models rollback",
    "models show",
    "predict",
    "prices",
    "prices check",
    "prices show",
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


def test_all_commands_are_there():
    whole = [*cli.COMMANDS, *cli.FOLDERS]
    assert sorted(whole) == COMMANDS


@pytest.mark.slow
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_says_what_every_option_is_for_and_cuts_none_off(turnout: Turnout, command: str):
    ended = turnout(*command.split(), "--help", columns=80)
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: turnout {command}")
    assert "…" not in ended.out
    root = app = cli.build(command.split())
    for word in command.split():
        app = app[word]
    for argument in app.assemble_argument_collection(default_parameter=root.default_parameter, parse_docstring=True):
        if not argument.show:
            continue
        assert argument.parameter.help, argument.name
        assert max(argument.names, key=len) in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


def test_help_of_all_lists_the_commands_by_job(turnout: Turnout):
    ended = turnout("--help")
    assert ended.code == 0
    for group in ("Route", "Train", "Operate", "Bundle"):
        assert f"─ {group} ─" in ended.out
    for command in COMMANDS:
        if " " not in command:
            assert re.search(rf"\b{command}\b", ended.out)


def test_version_is_the_installed_one(turnout: Turnout):
    ended = turnout("--version")
    assert (ended.code, ended.out.strip()) == (0, metadata.version("turnout"))


def test_flag_outranks_environment_outranks_file_outranks_default(
    turnout: Turnout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "turnout.toml"
    file.write_text('[serve]\nlisten = "127.0.0.1:1"\nhttp = "127.0.0.1:2"\ngrace_s = 9.0\nmax_queue_items = 7\n')
    monkeypatch.setenv("TURNOUT_LISTEN", "127.0.0.1:3")
    monkeypatch.setenv("TURNOUT_GRACE_S", "8.0")
    ended = turnout("serve", "--print-config", "--config", file, "--listen", "127.0.0.1:4")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert 'listen = "127.0.0.1:4"  # flag' in lines
    assert "grace_s = 8.0  # environment" in lines
    assert 'http = "127.0.0.1:2"  # file' in lines
    assert "max_queue_items = 7  # file" in lines
    assert "lame_duck_s = 0.5  # default" in lines
    again = tmp_path / "again.toml"
    again.write_text(ended.out)
    assert tomllib.loads(ended.out)["serve"]["grace_s"] == 8.0
    monkeypatch.delenv("TURNOUT_LISTEN")
    assert 'listen = "127.0.0.1:4"  # file' in turnout("serve", "--print-config", "--config", again).out


def test_setting_of_a_file_that_no_command_has_is_refused(turnout: Turnout, tmp_path: Path):
    file = tmp_path / "turnout.toml"
    file.write_text('[serve]\nlissten = "127.0.0.1:1"\n')
    ended = turnout("serve", "--print-config", "--config", file)
    assert ended.code == 2
    assert "lissten" in ended.err


def test_square_brackets_of_a_help_text_are_printed(capsys: pytest.CaptureFixture[str]):
    app = cli.build()

    @app.command
    def probe(*, port: str = "") -> None:
        """Open a port.

        Args:
            port: Needs turnout[http] and `[bold]`.
        """

    app(["probe", "--help"])
    assert "Needs turnout[http] and `[bold]`." in " ".join(re.sub("[│╭╮╰╯]", " ", capsys.readouterr().out).split())
