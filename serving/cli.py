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
rules_app = typer.Typer(help="Check a rules file, or try it on a log.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")
spool_app = typer.Typer(help="Look into the spool of a server: the outcomes that it took in.", no_args_is_help=True)
app.add_typer(spool_app, name="spool")

DEFAULTS = ServerSettings()
SERVING_COMMANDS = ("serve", "route", "bundle", "spool")
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Folder of a bundle. Without it: the champion that ships with Turnout.")
]
BundlesOption = Annotated[
    list[Path] | None,
    typer.Option("--bundle", help="Folder of a bundle that is served; again for more, the first is the default."),
]


@app.command()
def serve(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            "--bundle",
            help="Folder of a bundle, or of the registry with a CURRENT that is followed. Repeat it to serve several; "
            "the first is the default. Without it: the champion that ships with Turnout.",
        ),
    ] = None,
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
    canary: Annotated[
        Path | None, typer.Option(help="Challenger that answers a share; taken back when it fails or is slow.")
    ] = None,
    canary_share: Annotated[float, typer.Option(help="Share of sessions that the canary answers, 0 to 1.")] = 0.05,
    shadow: Annotated[
        Path | None, typer.Option(help="Challenger that scores the traffic beside the default and changes nothing.")
    ] = None,
    shadow_share: Annotated[float, typer.Option(help="Share of sessions that the shadow scores, 0 to 1.")] = 1.0,
    cache_items: Annotated[
        int, typer.Option(help="Predictions kept in memory, by digest of the prompt; 0 keeps nothing of any prompt.")
    ] = 10_000,
    spool: Annotated[
        Path | None, typer.Option(help="Folder to keep reported outcomes in; without it ReportOutcome is refused.")
    ] = DEFAULTS.spool,
    spool_max_file_bytes: Annotated[
        int, typer.Option(help="Bytes after which a file of the spool is sealed and the next one begun.")
    ] = DEFAULTS.spool_max_file_bytes,
    spool_max_age_s: Annotated[
        float, typer.Option(help="Seconds after which a file of the spool is sealed and the next one begun.")
    ] = DEFAULTS.spool_max_age_s,
) -> None:
    """Serve routing decisions over gRPC until SIGTERM.

    Prints one line when ready. Whatever error a caller gets, it uses the strong model.
    """
    from serving.commands import serve as run_server
    from serving.registry import locate
    from serving.server.lifecycle import Sources

    raise typer.Exit(
        run_server(
            Sources(
                bundles=tuple(map(locate, bundle)) if bundle else (locate(),),
                canary=None if canary is None else locate(canary),
                canary_share=canary_share,
                shadow=None if shadow is None else locate(shadow),
                shadow_share=shadow_share,
                cache_items=cache_items,
            ),
            listen,
            lame_duck_s=lame_duck_s,
            grace_s=grace_s,
            reflection=is_loopback(listen) if reflection is None else reflection,
            early_exit=early_exit,
            max_queue_items=max_queue_items,
            max_tenant_share=max_tenant_share,
            spool=spool,
            spool_max_file_bytes=spool_max_file_bytes,
            spool_max_age_s=spool_max_age_s,
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


@rules_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Rules file, TOML.")],
    bundle: BundlesOption = None,
) -> None:
    """Check a rules file against the bundles it is to be served with; exit code 2 when refused."""
    from serving.commands import check_rules
    from serving.registry import find_bundle

    print(check_rules(file, [find_bundle(folder) for folder in bundle] if bundle else [find_bundle()]))


@spool_app.command("show")
def show_spool(
    folder: Annotated[Path, typer.Argument(help="Folder of a spool, also of one that is being written to.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcomes, one line of JSON each; the counts go to stderr.")
    ] = False,
) -> None:
    """Count what a spool holds, or print its outcomes; exit code 1 when bytes between records are damaged.

    A torn tail is what a killed server leaves behind: nothing that was acknowledged is in it.
    """
    from serving.spool.show import show

    raise typer.Exit(show(folder, as_json=as_json))


def main() -> None:
    """Run the command line; errors of our own become one line on stderr and their exit code."""
    if not (len(sys.argv) > 1 and sys.argv[1] in SERVING_COMMANDS):
        importlib.import_module("training.cli").add_commands(app, rules_app)
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
