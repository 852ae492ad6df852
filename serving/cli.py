"""The `turnout` command: serving commands are always there, training commands are loaded when one is called.

Exit codes: 0 ok, 1 data refused, 2 usage, 3 bundle refused, 4 port taken.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from serving.errors import EXIT_DATA_REFUSED, EXIT_USAGE, TurnoutError
from serving.observe.logs import LogFormat
from serving.observe.scrape import DEFAULT_URL
from serving.server.config import DEFAULT_LISTEN, ServerSettings, is_loopback

app = typer.Typer(
    help="Send each LLM request to the cheap model when it would do as well as the dear one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bundle_app = typer.Typer(help="Look into a bundle, or check it.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")

DEFAULTS = ServerSettings()
SERVING_COMMANDS = ("serve", "route", "bundle", "top", "doctor")
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Folder of a bundle. Without it: the champion that ships with Turnout.")
]


@app.command()
def serve(
    bundle: BundleOption = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on; port 0 takes a free one.")] = DEFAULT_LISTEN,
    lame_duck_s: Annotated[
        float, typer.Option(help="Seconds after SIGTERM in which health says NOT_SERVING and calls still succeed.")
    ] = DEFAULTS.lame_duck_s,
    grace_s: Annotated[float, typer.Option(help="Seconds that calls in flight get to end.")] = DEFAULTS.grace_s,
    reflection: Annotated[
        bool | None, typer.Option(help="Let clients such as grpcurl list the services; on for loopback, off elsewhere.")
    ] = None,
    early_exit: Annotated[
        bool, typer.Option(help="Let the fast head answer where it is sure; without it the encoder always runs.")
    ] = True,
    max_queue_items: Annotated[
        int, typer.Option(help="Requests that wait or run; more are refused at once (RESOURCE_EXHAUSTED).")
    ] = DEFAULTS.max_queue_items,
    max_tenant_share: Annotated[
        float, typer.Option(help="Share of the queue that one tenant may hold once it is half full; 1 for no limit.")
    ] = DEFAULTS.max_tenant_share,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT for Prometheus, off for none. Without it: 127.0.0.1:9464, or none where that is taken."
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="Log on stderr for people or as JSON lines.")] = LogFormat.TEXT,
    traces: Annotated[
        bool | None,
        typer.Option(help="Send a span for each call over OTLP; without it as the OTEL_ variables say."),
    ] = None,
) -> None:
    """Serve routing decisions over gRPC until SIGTERM.

    Prints one line when ready. Whatever error a caller gets, it uses the strong model.
    """
    from serving.commands import serve as run_server
    from serving.observe.settings import observe_settings
    from serving.registry import find_bundle

    raise typer.Exit(
        run_server(
            find_bundle(bundle),
            listen,
            lame_duck_s=lame_duck_s,
            grace_s=grace_s,
            reflection=is_loopback(listen) if reflection is None else reflection,
            early_exit=early_exit,
            max_queue_items=max_queue_items,
            max_tenant_share=max_tenant_share,
            observe=observe_settings(metrics, log_format, traces),
        )
    )


@app.command()
def route(
    text: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    server: Annotated[str | None, typer.Option(help="HOST:PORT of a running server to ask.")] = None,
    bundle: BundleOption = None,
    policy: Annotated[str, typer.Option(help="Name of a policy of the bundle, such as max_worse=0.01.")] = "",
    threshold: Annotated[float | None, typer.Option(help="Plain threshold in [0, 1] instead of a policy.")] = None,
    early_exit: Annotated[
        bool, typer.Option(help="Let the fast head answer where it is sure (in-process only).")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Route one prompt and print the decision, with a server or in this process."""
    from serving import commands

    prompt = sys.stdin.read() if text == "-" else text
    if server is not None:
        print(commands.route_remotely(server, prompt, policy, threshold, as_json=as_json))
        return
    from serving.registry import find_bundle

    folder = find_bundle(bundle)
    print(commands.route_locally(folder, prompt, policy, threshold, early_exit=early_exit, as_json=as_json))


@bundle_app.command()
def verify(bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")]) -> None:
    """Check every file's digest, open the graph and answer the golden prompts; exit code 3 when refused."""
    from serving.bundle import load_bundle

    loaded = load_bundle(bundle)
    print(f"{loaded.manifest.bundle_id}: {len(loaded.manifest.files)} files and {len(loaded.golden)} golden prompts ok")


@bundle_app.command()
def show(
    bundle: Annotated[Path | None, typer.Argument(help="Folder of the bundle; without it the champion.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Print what a bundle is: pair, figures with intervals, policies, training."""
    from serving import commands
    from serving.registry import find_bundle

    commands.show_bundle(find_bundle(bundle), as_json=as_json)


@app.command()
def top(
    metrics: Annotated[str, typer.Option(help="URL of the server's metrics.")] = DEFAULT_URL,
    interval_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two scrapes; rates are over them.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one interval and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON an interval.")] = False,
) -> None:
    """Watch a running server: requests, shares, latency, queue, refusals, bundles. Ctrl-C ends it."""
    from serving.observe.top import show_top
    from serving.tables import console

    show_top(metrics, interval_s, once=once, as_json=as_json, console=console())


@app.command()
def doctor(
    bundle: BundleOption = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT that a server is to listen on.")] = DEFAULT_LISTEN,
    server: Annotated[str, typer.Option(help="HOST:PORT of a running server to ask.")] = "",
    metrics: Annotated[str, typer.Option(help="URL of a running server's metrics.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Say what is wrong with this installation and what to do; exit code 1 when something keeps it from serving."""
    from serving.observe.doctor.checkup import Patient, check_up, exit_code
    from serving.observe.doctor.checkup import as_json as findings_json
    from serving.observe.doctor.checkup import as_table as findings_table
    from serving.tables import console

    findings = list(check_up(Patient(bundle, listen, server, metrics)))
    if as_json:
        print(findings_json(findings))
    else:
        console().print(findings_table(findings))
    raise typer.Exit(exit_code(findings))


def main() -> None:
    """Run the command line; errors of our own become one line on stderr and their exit code."""
    if not (len(sys.argv) > 1 and sys.argv[1] in SERVING_COMMANDS):
        importlib.import_module("training.cli").add_commands(app)
    try:
        app(prog_name="turnout")
    except TurnoutError as error:
        print(f"turnout: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"turnout: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(EXIT_DATA_REFUSED)
    except ModuleNotFoundError as error:
        print(f"turnout: this command needs {error.name}; get it with: pip install 'turnout[train]'", file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
