"""The `turnout` command: serving commands are always there, training commands are loaded when one is called.

Exit codes: 0 ok, 1 data refused, 2 usage, 3 bundle refused, 4 port taken, 5 not done yet
(a judge's batch): the same command later goes on.
"""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from turnout.serving.cli.models_cli import models_app, rollback
from turnout.serving.cli.scrape import DEFAULT_URL
from turnout.serving.errors import EXIT_DATA_REFUSED, EXIT_USAGE, TurnoutError
from turnout.serving.observe.logs import LogFormat
from turnout.serving.server.launching import usable_cores
from turnout.serving.settings import DEFAULT_LISTEN, ExtProc, ServerSettings, is_loopback, unix_path
from turnout.serving.spool.decision import LogDecisions

app = typer.Typer(
    help="Send each LLM request to the cheap model when it would do as well as the dear one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bundle_app = typer.Typer(help="Look into a bundle, check it, or sign it.", no_args_is_help=True)
key_app = typer.Typer(help="Make keys that sign bundles.", no_args_is_help=True)
token_app = typer.Typer(help="Make tokens that callers show the server.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")
rules_app = typer.Typer(help="Check a rules file, or try it on a log.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")
spool_app = typer.Typer(help="Look into the spool of a server: the outcomes that it took in.", no_args_is_help=True)
app.add_typer(spool_app, name="spool")
app.add_typer(models_app, name="models")
app.command()(rollback)
app.add_typer(key_app, name="key")
app.add_typer(token_app, name="token")

DEFAULTS = ServerSettings()
SERVING_COMMANDS = ("serve", "route", "bundle", "models", "rollback", "spool", "key", "token", "top", "doctor")
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Folder of a bundle. Without it: the champion that ships with Turnout.")
]
BundlesOption = Annotated[
    list[Path] | None,
    typer.Option("--bundle", help="Folder of a bundle that is served; again for more, the first is the default."),
]
TrustedKeyOption = Annotated[
    Path | None, typer.Option(help="Refuse a bundle that the owner of this Ed25519 public key (PEM) has not signed.")
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
    listen: Annotated[
        str, typer.Option(help="HOST:PORT to listen on; port 0 takes a free one. Or unix:/PATH, for one worker.")
    ] = DEFAULT_LISTEN,
    http: Annotated[
        str,
        typer.Option(help="HOST:PORT for decisions over HTTP (POST /v1/route, /v1/systemone); needs turnout[http]."),
    ] = DEFAULTS.http,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes on the port, each with the whole model. Without it: one for each core."),
    ] = None,
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
    http_head_s: Annotated[
        float, typer.Option(help="Seconds that a request line with its headers may take over HTTP.")
    ] = DEFAULTS.http_head_s,
    http_keep_alive_s: Annotated[
        float, typer.Option(help="Seconds between two requests of an HTTP connection; gateways' own should be shorter.")
    ] = DEFAULTS.http_keep_alive_s,
    min_ping_interval_s: Annotated[
        float, typer.Option(help="Seconds between pings of a gRPC client below which its connection is closed.")
    ] = DEFAULTS.min_ping_interval_s,
    max_connection_age_s: Annotated[
        float, typer.Option(help="Seconds after which connections and streams are to be made anew; 0 for never.")
    ] = DEFAULTS.max_connection_age_s,
    max_queue_items: Annotated[
        int, typer.Option(help="Requests that wait or run; more are refused at once (RESOURCE_EXHAUSTED).")
    ] = DEFAULTS.max_queue_items,
    max_tenant_share: Annotated[
        float, typer.Option(help="Share of the queue that one tenant may hold once it is half full; 1 for no limit.")
    ] = DEFAULTS.max_tenant_share,
    rules: Annotated[
        Path | None, typer.Option(help="TOML file of rules (turnout rules check); read again when it changes.")
    ] = None,
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
    log_decisions: Annotated[
        LogDecisions,
        typer.Option(
            help="Write every decision to --spool, with the prompt, redacted, or only digest, word counts and vectors."
        ),
    ] = DEFAULTS.log_decisions,
    compact_to: Annotated[
        Path | None,
        typer.Option(help="Folder to compact sealed files of --spool into, as Parquet, in a process of its own."),
    ] = DEFAULTS.compact_to,
    compact_keep_days: Annotated[
        int | None, typer.Option(help="Delete in --compact-to what is older than so many days; without it all is kept.")
    ] = DEFAULTS.compact_keep_days,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM file with the server's certificates, its own first; read again on change.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="PEM file with the private key of --tls-cert, without passphrase.")
    ] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Let in only clients with a certificate of these authorities (PEM): mutual TLS.")
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(help="Let in only callers with a bearer token of this TOML file (turnout token new); read again."),
    ] = None,
    insecure_public: Annotated[
        bool, typer.Option("--insecure-public", help="Listen beyond loopback without TLS; something else encrypts.")
    ] = False,
    ext_proc: Annotated[
        ExtProc,
        typer.Option(help="Answer Envoy as external processor: set x-turnout-* headers, or rewrite the model as well."),
    ] = DEFAULTS.ext_proc,
    ext_proc_timeout_s: Annotated[
        float, typer.Option(help="Seconds after which Envoy is told the strong model; below Envoy's message_timeout.")
    ] = DEFAULTS.ext_proc_timeout_s,
    trusted_key: TrustedKeyOption = None,
    allow_other_pair: Annotated[
        bool, typer.Option("--allow-other-pair", help="Take a canary, shadow or CURRENT of another pair of models.")
    ] = False,
    allow_synthetic: Annotated[
        bool,
        typer.Option("--allow-synthetic", help="Take one trained on synthetic data beside or after one that is not."),
    ] = False,
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
    """Serve routing decisions over gRPC until SIGTERM; SIGHUP reloads.

    Prints one line when ready. Whatever error a caller gets, it uses the strong model.
    """
    from turnout.serving.bundles.registry import locate
    from turnout.serving.observe.settings import observe_settings
    from turnout.serving.server.launching import serve as serve_bundles
    from turnout.serving.settings import Sources

    sources = Sources(
        bundles=tuple(map(locate, bundle)) if bundle else (locate(),),
        canary=None if canary is None else locate(canary),
        canary_share=canary_share,
        shadow=None if shadow is None else locate(shadow),
        shadow_share=shadow_share,
        cache_items=cache_items,
        trusted_key=trusted_key,
        allow_other_pair=allow_other_pair,
        allow_synthetic=allow_synthetic,
    )
    settings = ServerSettings(
        listen=listen,
        http=http,
        lame_duck_s=lame_duck_s,
        grace_s=grace_s,
        reflection=is_loopback(listen) if reflection is None else reflection,
        early_exit=early_exit,
        http_head_s=http_head_s,
        http_keep_alive_s=http_keep_alive_s,
        min_ping_interval_s=min_ping_interval_s,
        max_connection_age_s=max_connection_age_s,
        max_queue_items=max_queue_items,
        max_tenant_share=max_tenant_share,
        rules=rules,
        spool=spool,
        spool_max_file_bytes=spool_max_file_bytes,
        spool_max_age_s=spool_max_age_s,
        log_decisions=log_decisions,
        compact_to=compact_to,
        compact_keep_days=compact_keep_days,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        tokens=tokens,
        insecure_public=insecure_public,
        ext_proc=ext_proc,
        ext_proc_timeout_s=ext_proc_timeout_s,
    )
    observe = observe_settings(metrics, log_format, traces)
    n_default = 1 if unix_path(listen) is not None else usable_cores()
    n_workers = n_default if workers is None else workers
    raise typer.Exit(serve_bundles(sources, settings, observe, n_workers))


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
    tls_ca: Annotated[
        Path | None,
        typer.Option(help="Speak TLS with --server, trusting certificates of this authority (PEM)."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token for --server, on one line.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Route one prompt and print the decision, with a server or in this process; exit code 1 when none was had."""
    from turnout.serving.cli import route as commands

    prompt = sys.stdin.read() if text == "-" else text
    if server is not None:
        with commands.open_router(server, tls_ca, token_file) as router:
            line, is_answered = commands.route_remotely(router, prompt, policy, threshold, as_json=as_json)
        print(line)
        if not is_answered:  # the reason is on stderr, in the words of the server
            raise typer.Exit(EXIT_DATA_REFUSED)
        return
    from turnout.serving.bundles.registry import find_bundle

    folder = find_bundle(bundle)
    print(commands.route_locally(folder, prompt, policy, threshold, early_exit=early_exit, as_json=as_json))


@bundle_app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")], trusted_key: TrustedKeyOption = None
) -> None:
    """Check every file's digest, open the graph and answer the golden prompts; exit code 3 when refused."""
    from turnout.serving.bundles.bundle import load_bundle

    loaded = load_bundle(bundle, trusted_key)
    print(f"{loaded.manifest.bundle_id}: {len(loaded.manifest.files)} files and {len(loaded.golden)} golden prompts ok")


@bundle_app.command()
def sign(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    key: Annotated[Path, typer.Option(help="PEM file with the Ed25519 private key (turnout key new).")],
) -> None:
    """Check a bundle as `verify` does, then write manifest.sig; `serve --trusted-key` asks for it."""
    from turnout.serving.bundles.bundle import load_bundle, sign_bundle

    load_bundle(bundle)
    print(sign_bundle(bundle, key))


@key_app.command("new")
def new_key(name: Annotated[Path, typer.Argument(help="Writes NAME.key (keep it secret) and NAME.pub.")]) -> None:
    """Make an Ed25519 key pair for signing bundles."""
    from turnout.serving.bundles import signing

    for path in signing.new_key(name):
        print(path)


@token_app.command("new")
def new_token(
    name: Annotated[str, typer.Argument(help="Who is to get it; stands in refusals and in the tokens file.")],
) -> None:
    """Make a bearer token: printed once and kept nowhere; the tokens file gets the lines, with its digest only."""
    from turnout.serving.access.tokens import new_token_lines

    token, lines = new_token_lines(name)
    print(f"# token, shown only here: {token}")
    print(lines)


@bundle_app.command()
def show(
    bundle: Annotated[Path | None, typer.Argument(help="Folder of the bundle; without it the champion.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Print what a bundle is: pair, figures with intervals, policies, training."""
    from turnout.serving.bundles.registry import find_bundle
    from turnout.serving.cli import route as commands

    commands.show_bundle(find_bundle(bundle), as_json=as_json)


@rules_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Rules file, TOML.")],
    bundle: BundlesOption = None,
) -> None:
    """Check a rules file against the bundles it is to be served with; exit code 2 when refused."""
    from turnout.serving.bundles.registry import find_bundle
    from turnout.serving.cli.route import check_rules

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
    from turnout.serving.cli.spool import show

    raise typer.Exit(show(folder, as_json=as_json))


@app.command()
def top(
    metrics: Annotated[str, typer.Option(help="URL of the server's metrics.")] = DEFAULT_URL,
    interval_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two scrapes; rates are over them.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one interval and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON an interval.")] = False,
) -> None:
    """Watch a running server: requests, shares, latency, queue, refusals, bundles. Ctrl-C ends it."""
    from turnout.serving.cli.tables import console
    from turnout.serving.cli.top import show_top

    show_top(metrics, interval_s, once=once, as_json=as_json, console=console())


@app.command()
def doctor(
    bundle: BundleOption = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT that a server is to listen on.")] = DEFAULT_LISTEN,
    server: Annotated[str, typer.Option(help="HOST:PORT of a running server to ask.")] = "",
    metrics: Annotated[str, typer.Option(help="URL of a running server's metrics.")] = "",
    tls_ca: Annotated[Path | None, typer.Option(help="Speak TLS with --server, trusting this authority (PEM).")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file with a certificate to check, or to show it.")] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="PEM file with its key: shown to a --server with mutual TLS.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token for --server.")] = None,
    tokens: Annotated[Path | None, typer.Option(help="Tokens file of a server (TOML) to check.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Say what is wrong with this installation and what to do; exit code 1 when something keeps it from serving."""
    from turnout.serving.cli.doctor.checkup import Patient, check_up, exit_code
    from turnout.serving.cli.doctor.checkup import as_json as findings_json
    from turnout.serving.cli.doctor.checkup import as_table as findings_table
    from turnout.serving.cli.tables import console

    findings = list(check_up(Patient(bundle, listen, server, metrics, tls_ca, tls_cert, tls_key, token_file, tokens)))
    if as_json:
        print(findings_json(findings))
    else:
        console().print(findings_table(findings))
    raise typer.Exit(exit_code(findings))


@functools.cache  # once: tests call `main` again and again
def _add_training_commands() -> None:
    importlib.import_module("turnout.training.cli.app").add_commands(app, rules_app)


def main() -> None:
    """Run the command line; errors of our own become one line on stderr and their exit code."""
    if not (len(sys.argv) > 1 and sys.argv[1] in SERVING_COMMANDS):
        _add_training_commands()
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
