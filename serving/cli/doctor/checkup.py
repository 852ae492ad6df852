"""All checks in order, and how they read: one line each, or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from turnout.serving.cli.doctor.access import Way, check_certificate, check_tokens
from turnout.serving.cli.doctor.finding import Finding, Level
from turnout.serving.cli.doctor.installation import check_installation
from turnout.serving.cli.doctor.machine import check_cores, check_descriptors, check_instructions, usable_cores
from turnout.serving.cli.doctor.models import check_models
from turnout.serving.cli.doctor.server import check_listen, check_metrics, check_server
from turnout.serving.cli.options import AsJson
from turnout.serving.cli.tables import console
from turnout.serving.settings import DEFAULT_LISTEN

COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@dataclass(frozen=True, slots=True)
class Patient:
    """What to look at.

    Attributes:
        bundle: folder of the bundle; None for the champion.
        listen: `host:port` that a server would listen on.
        server: `host:port` of a running server; empty for none, and then `listen` is checked.
        metrics: URL of its metrics; empty for none.
        tls_ca: authority to trust when asking the server; None for plain text.
        tls_cert: certificate chain to check, and shown to the server where `tls_key` is given.
        tls_key: its private key.
        token_file: file with the bearer token to ask with.
        tokens: tokens file of a server, to check.
        native_head: whether the server is to answer in C where it can, as its own option says.
    """

    bundle: Path | None = None
    listen: str = DEFAULT_LISTEN
    server: str = ""
    metrics: str = ""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None
    tokens: Path | None = None
    native_head: bool = True

    @property
    def way(self) -> Way:
        """How to come to the server."""
        return Way(self.server, self.tls_ca, self.tls_cert, self.tls_key, self.token_file)


EVERYTHING = Patient()


def doctor(*, patient: Annotated[Patient, Parameter(name="*")] = EVERYTHING, as_json: AsJson = False) -> int:
    """Say what is wrong with this installation and what to do; exit code 1 when something keeps it from serving."""
    findings = list(check_up(patient))
    if as_json:
        print(findings_json(findings))
    else:
        console().print(as_table(findings))
    return exit_code(findings)


def check_up(patient: Patient) -> Iterator[Finding]:
    """Yield what each check finds, as it finds it."""
    yield from check_installation()
    yield check_instructions()
    seen, workers = check_metrics(patient.metrics) if patient.metrics else ([], None)
    yield check_cores(usable_cores(), workers)
    yield check_descriptors()
    yield from check_models(patient.bundle, native_head=patient.native_head)
    for path in (patient.tls_ca, patient.tls_cert):
        if path is not None:
            yield check_certificate(path)
    if patient.tokens is not None:
        yield check_tokens(patient.tokens)
    if patient.server:
        yield from check_server(patient.way)
    else:
        yield check_listen(patient.listen)
    yield from seen


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 when anything keeps the server from working, else 0."""
    return int(any(finding.level is Level.FAIL for finding in findings))


def findings_json(findings: Sequence[Finding]) -> str:
    """Return the findings as one JSON array."""
    return msgspec.json.encode(findings).decode()


def as_table(findings: Sequence[Finding]) -> Table:
    """Return the findings for people: level, check, what is so, and below it what to do."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for finding in findings:
        advice = f"\n-> {finding.advice}" if finding.advice else ""
        table.add_row(f"[{COLOURS[finding.level]}]{finding.level}[/]", finding.check, escape(finding.found + advice))
    return table
