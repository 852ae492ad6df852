"""The `turnout` command: which commands there are, and what is the same for all of them.

Comes in: the words after `turnout`, the environment, and a file named by `--config`. Goes out: an exit code. A flag
outranks the environment (`TURNOUT_LISTEN` for `serve`, `TURNOUT_TRAIN_SEED` for others), which outranks the file
(`[serve]`, `[train]`), which outranks the default. A command's module is imported when it is called, so that `turnout
--help` needs nothing but this file, and a command that lacks its extra says so without harm to the others.

Exit codes: 0 ok, 1 data refused, 2 usage, 3 bundle refused, 4 port taken, 5 not done yet (a judge's batch, too few new
rows): the same command later goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError
from cyclopts.config import Env, Toml

import turnout
from turnout.serving.cli.options import OPTION_NAMES
from turnout.serving.cli.print_config import print_config
from turnout.serving.decision.prices import OWN_LIST
from turnout.serving.errors import EXIT_DATA_REFUSED, EXIT_USAGE, TurnoutError, how_to_install

ROUTE, TRAIN, OPERATE, BUNDLE = (
    Group(name, sort_key=place) for place, name in enumerate(("Route", "Train", "Operate", "Bundle"))
)
SERVING, TRAINING = "turnout.serving.cli", "turnout.training.cli"
FOLDERS = {
    "bundle": (BUNDLE, "Look into a bundle, check it, or sign it."),
    "models": (BUNDLE, "List, add, compare, promote, roll back, prune and publish bundles of the registry."),
    "key": (BUNDLE, "Make keys that sign bundles."),
    "encoder": (BUNDLE, "Make encoders."),
    "rules": (OPERATE, "Check a rules file, or try it on a log."),
    "prices": (OPERATE, "Show the prices that hold, or check a list of your own."),
    "token": (OPERATE, "Make tokens that callers show the server."),
    "spool": (OPERATE, "Look into the spool of a server: the outcomes that it took in."),
    "logs": (OPERATE, "Compact the decisions of a server for training, or forget some."),
}
"""Commands of commands: their group, and what they are for."""

COMMANDS: dict[str, tuple[Group, str, str]] = {
    "serve": (ROUTE, f"{SERVING}.serve:serve", "Serve routing decisions over gRPC until SIGTERM; SIGHUP reloads."),
    "route": (ROUTE, f"{SERVING}.route:route", "Route one prompt and print the decision."),
    "sample": (TRAIN, f"{TRAINING}.sample:sample", "Make a SYNTHETIC gateway log to try everything with."),
    "label": (TRAIN, f"{TRAINING}.label:label", "Label a log by whether the weak model matched the strong one."),
    "replay": (TRAIN, f"{TRAINING}.replay:replay", "Send rows that hold only the strong answer to the weak model."),
    "assess": (TRAIN, f"{TRAINING}.assess:assess", "Say, before any commitment, what a router on these logs is worth."),
    "frontier": (TRAIN, f"{TRAINING}.frontier:frontier", "Say what each part is worth against microseconds."),
    "train": (TRAIN, f"{TRAINING}.train:train", "Learn a router from logs."),
    "recalibrate": (TRAIN, f"{TRAINING}.recalibrate:recalibrate", "Fit probabilities and policies of a bundle again."),
    "retrain": (TRAIN, f"{TRAINING}.retrain:retrain", "Learn from new logs; promote what is no worse."),
    "predict": (TRAIN, f"{TRAINING}.predict:predict", "Say for each prompt of a file where it would go."),
    "evaluate": (TRAIN, f"{TRAINING}.evaluate:evaluate", "Measure a bundle on logs it has not seen."),
    "report": (TRAIN, f"{TRAINING}.report:report", "Write a bundle's report: one page, and its figures."),
    "top": (OPERATE, f"{SERVING}.top:top", "Watch a running server."),
    "doctor": (OPERATE, f"{SERVING}.doctor.checkup:doctor", "Say what is wrong with this installation."),
    "drift": (OPERATE, f"{TRAINING}.drift:drift", "Say whether traffic is still that of the training."),
    "savings": (OPERATE, f"{TRAINING}.savings:savings", "Say what routing really spent and saved."),
    "replay-policy": (OPERATE, f"{TRAINING}.offpolicy:replay_policy", "Say what other policies would have cost."),
    "rules check": (OPERATE, f"{SERVING}.rules:check", "Check a rules file against bundles."),
    "rules try": (OPERATE, f"{TRAINING}.rules:try_rules", "Say what a rules file would change on a log."),
    "prices show": (OPERATE, f"{SERVING}.prices:show", "Show the prices that hold."),
    "prices check": (OPERATE, f"{SERVING}.prices:check", "Check a price list of your own."),
    "token new": (OPERATE, f"{SERVING}.keys:new_token", "Make a bearer token."),
    "spool show": (OPERATE, f"{SERVING}.spool:show", "Count what a spool holds, or print its outcomes."),
    "logs compact": (OPERATE, f"{TRAINING}.logs:compact", "Move sealed files of a spool into Parquet."),
    "logs forget": (OPERATE, f"{TRAINING}.logs:forget", "Rewrite all files without some rows."),
    "rollback": (BUNDLE, f"{SERVING}.models:rollback", "Point CURRENT back to the version of before."),
    "bundle verify": (BUNDLE, f"{SERVING}.bundle:verify", "Check every file and the golden prompts."),
    "bundle show": (BUNDLE, f"{SERVING}.bundle:show", "Print what a bundle is."),
    "bundle sign": (BUNDLE, f"{SERVING}.bundle:sign", "Check a bundle, then sign it."),
    "models list": (BUNDLE, f"{SERVING}.models:list_models", "List all versions of all names."),
    "models show": (BUNDLE, f"{SERVING}.models:show", "Show the versions of a name and its history."),
    "models diff": (BUNDLE, f"{SERVING}.models:diff", "Show in what two bundles differ."),
    "models add": (BUNDLE, f"{SERVING}.models:add", "Check a bundle and copy it into the registry."),
    "models promote": (BUNDLE, f"{SERVING}.models:promote", "Check a version, then put it into service."),
    "models rollback": (BUNDLE, f"{SERVING}.models:rollback", "Point CURRENT back to the version of before."),
    "models prune": (BUNDLE, f"{SERVING}.models:prune", "Delete old versions."),
    "models publish": (BUNDLE, f"{SERVING}.models:publish", "Put all versions of a name into MLflow's registry."),
    "key new": (BUNDLE, f"{SERVING}.keys:new_key", "Make an Ed25519 key pair for signing bundles."),
    "encoder export": (BUNDLE, f"{TRAINING}.encoder:export", "Export a sentence-transformers model as int8 ONNX."),
}
"""Every command: its group, where it stands, and its line in the list; the page of one command is its docstring."""


OF_SERVE = frozenset(
    {"grpc_reflection", "numpy", "onnxruntime", "packaging", "prometheus_client", "rich", "tokenizers"}
)
"""Modules of the extra `serve`; what else may be missing is of `train`."""


def option_name(field: str) -> str:
    """Return the option of a field, without its dashes; the words of a choice are named likewise."""
    return OPTION_NAMES.get(field, field).lower().replace("_", "-")


def build(words: Sequence[str] = (), *, whole: bool = False) -> App:
    """Return the command line.

    Args:
        words: those typed; the command that they name shows its whole docstring as help, the others their line here.
        whole: every command shows its whole docstring, as the reference does; imports them all.
    """
    app = App(
        name="turnout",
        version=lambda: turnout.__version__,
        help="Send each LLM request to the cheap model when it would do as well as the expensive one.",
        help_format="plaintext",
        help_flags=["--help", "-h"],
        default_parameter=Parameter(name_transform=option_name, negative_iterable=()),
        result_action="return_value",
    )
    folders = {}
    for name, (group, line) in FOLDERS.items():
        folders[name] = App(name=name, group=group, help=line)
        app.command(folders[name])
    typed = [word for word in words if not word.startswith("-")][:2]
    for name, (group, target, line) in COMMANDS.items():
        *folder, last = name.split()
        asked = whole or typed[: len(name.split())] == name.split()
        where: dict[str, Any] = {"name": last} if folder else {"name": last, "group": group}
        (folders[folder[0]] if folder else app).command(target, **where, **({} if asked else {"help": line}))
    app.register_install_completion_command(help="Let your shell complete the commands and options.")
    return app


def configuration(command: str, config: Path | None) -> tuple[Any, ...]:
    """Return where settings come from besides flags, the strongest first."""
    environment = Env("TURNOUT_", command=command != "serve")
    return (environment, Toml(config, must_exist=True)) if config else (environment,)


def run(words: Sequence[str]) -> Any:
    """Run a command and return what it gives back: its exit code, or None.

    Raises:
        CycloptsError: the words make no command.
    """
    app = build(words)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[Path | None, Parameter(help="TOML file with a table of settings for each command.")] = None,
        prices: Annotated[
            Path | None,
            Parameter(help=f"Your own price list, above ours: TOML, or LiteLLM's map as JSON. Also ${OWN_LIST}."),
        ] = None,
        print_config_: Annotated[
            bool,
            Parameter(
                name="--print-config", negative=(), help="Print each setting, and where it comes from; run nothing."
            ),
        ] = False,
    ) -> Any:
        if prices is not None:
            os.environ[OWN_LIST] = str(prices.resolve())
        command = next((word for word in tokens if not word.startswith("-")), "")
        app.config = configuration(command, config)
        if print_config_:
            return print_config(app, command, tokens)
        try:
            return app(tokens, exit_on_error=False, print_error=False)
        except UnusedCliTokensError as error:
            return app(_gathered(app, tokens, error), exit_on_error=False, print_error=False)

    return app.meta(words, exit_on_error=False, print_error=False)


def _gathered(app: App, tokens: Sequence[str], error: UnusedCliTokensError) -> list[str]:
    """Return the words with the logs that are named after an option beside the others, where a list's words must stand.

    Raises:
        UnusedCliTokensError: that of the first try, where the words left over are no logs.
    """
    _, bound, unused, _ = app.parse_known_args(tokens)
    logs = bound.arguments.get("logs")
    if not logs or any(word.startswith("-") for word in unused):
        raise error
    place = list(tokens).index(str(logs[-1])) + 1
    later = list(tokens[place:])
    for word in reversed(unused):
        del later[len(later) - 1 - later[::-1].index(word)]
    return [*tokens[:place], *unused, *later]


def main() -> None:
    """Run the command line; errors become one line on stderr and their exit code."""
    try:
        sys.exit(run(sys.argv[1:]) or 0)
    except CycloptsError as error:
        print(f"turnout: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except TurnoutError as error:
        print(f"turnout: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"turnout: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(EXIT_DATA_REFUSED)
    except ImportError as error:
        missing = _missing_module(error)
        if missing is None:
            raise
        extra = "serve" if missing.partition(".")[0] in OF_SERVE else "train"
        print(f"turnout: this command needs {missing}; {how_to_install(extra)}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def _missing_module(error: BaseException | None) -> str | None:
    """Return the module that is not installed; None where the import failed for another reason."""
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__  # commands are imported when they are called, which wraps what they raise
    return error.name if error is not None else None


if __name__ == "__main__":
    main()
