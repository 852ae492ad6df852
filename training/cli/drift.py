"""`turnout drift`: is recent traffic still that on which a bundle was measured? A table, JSON, or a page."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from rich.table import Table

from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.registry import find_bundle, find_encoder
from turnout.serving.cli.options import ChampionOr
from turnout.serving.cli.tables import console
from turnout.serving.errors import EXIT_OK
from turnout.serving.files import write_whole
from turnout.serving.router.prompt import Prompt
from turnout.training.bundle.reopen import check_encoder
from turnout.training.cli.options import (
    FILES,
    OUTPUT,
    Cache,
    EncoderInside,
    FileOptions,
    Flat,
    OutputFormat,
    Seed,
    cache_dir,
)
from turnout.training.drift.compare import NO_BASELINE, DriftReport, compare
from turnout.training.drift.live import LiveRow, Span, named_checks, named_files, read_live
from turnout.training.drift.page import render_drift
from turnout.training.drift.second_look import read_checks, with_second_look
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import load_encoder
from turnout.training.evaluation.dense_blocks import (
    DENSE_BLOCKS,
    MIN_BLOCKS,
    DenseBlocks,
    DenseDistance,
    dense_distance,
)
from turnout.training.evaluation.evaluation import Distribution
from turnout.training.learn.train import EVALUATION_JSON
from turnout.training.logs.reading import Reading
from turnout.training.logs.sources import check_out
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter

MAX_EMBEDDED = 2000
"""Rows drawn for the dense means: some 2 s on one core; of so many, chance moves the mean by little."""


class _ByTask(msgspec.Struct, frozen=True):
    """What is read of the bundle's evaluation."""

    drift_by_task: dict[str, Distribution] = {}


def drift(
    log: list[str],
    /,
    *,
    bundle: ChampionOr = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    out: Path | None = None,
    encoder: EncoderInside = "",
    seed: Seed = 0,
    cache: Cache = True,
    files: Annotated[FileOptions, Flat] = FILES,
    score_name: str = "",
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> int:
    """Say whether recent traffic is still that on which a bundle was measured, measure by measure and task by task.

    Args:
        log: Folder of compacted decision logs, its files, or any log that turnout label reads; again for more.
        since: Only rows from this time on (UTC), such as 2026-11-01 or 2026-11-01T08:00.
        until: Only rows from before this time (UTC).
        out: HTML page to write, with plots.
        score_name: Name of the scores that count, where a log has several (Langfuse).
    """
    return drift_of_logs(
        named_files(log),
        find_bundle(bundle),
        dataclasses.replace(files.reading, score=score_name),
        Span(_seconds(since), _seconds(until)),
        out,
        encoder,
        seed,
        cache_dir(cache),
        quiet=output.quiet,
        as_json=output.as_json,
        checks=named_checks(log),
    )


def _seconds(moment: dt.datetime | None) -> float | None:
    return None if moment is None else moment.replace(tzinfo=dt.UTC).timestamp()


def drift_of_logs(
    logs: Sequence[LogFile],
    folder: Path,
    reading: Reading,
    span: Span,
    out: Path | None,
    encoder: str,
    seed: int,
    vectors: Path | None,
    *,
    quiet: bool,
    as_json: bool,
    checks: Sequence[LogFile] = (),
) -> int:
    """Compare logs with the baseline of the bundle in `folder`, say what has moved, and return the exit code.

    Raises:
        DataRefused: a log can't be read, no row is left, or the encoder is not the bundle's.
    """
    check_out(out, [*logs, *checks], folder)
    reporter, bundle = Reporter(quiet=quiet), load_bundle(folder)
    with reporter.stage("Reading logs"):
        live = read_live(logs, bundle, reading, span)
    dense = _dense(bundle, live.rows, encoder, seed, vectors, reporter)
    report = compare(bundle, live, _by_task(bundle), dense)
    report = with_second_look(report, bundle, live.rows, read_checks(checks, bundle, span))
    if out is not None:
        write_whole(out, render_drift(report).encode())
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _print(report, out)
    return EXIT_OK


def _by_task(bundle: Bundle) -> dict[str, Distribution]:
    path = bundle.folder / EVALUATION_JSON
    if EVALUATION_JSON not in bundle.manifest.files:
        return {}
    return msgspec.json.decode(path.read_bytes(), type=_ByTask).drift_by_task


def _dense(
    bundle: Bundle, rows: Sequence[LiveRow], encoder: str, seed: int, vectors: Path | None, reporter: Reporter
) -> DenseDistance | str:
    """Return the distance of the dense means, or why there is none."""
    if DENSE_BLOCKS not in bundle.manifest.files:
        return NO_BASELINE
    blocks = DenseBlocks.from_bytes((bundle.folder / DENSE_BLOCKS).read_bytes())
    texts = [(row.prompt, row.session) for row in rows if row.prompt is not None and not row.prompt.is_empty]
    least = MIN_BLOCKS * blocks.rows
    if len(texts) < least:
        return f"{len(texts)} rows with their text, at least {least} are needed"
    drawn = np.random.default_rng(seed).permutation(len(texts))[: max(MAX_EMBEDDED, least)]
    prompts: list[Prompt] = [texts[number][0] for number in drawn]
    model = load_encoder(find_encoder(encoder or bundle.manifest.encoder.name))
    check_encoder(bundle, model)
    with reporter.stage("Embedding prompts", len(prompts)) as advance:
        table = embed(prompts, model, cache_dir=vectors, on_progress=advance)
    group = np.unique([texts[number][1] for number in drawn], return_inverse=True)[1]
    return dense_distance(blocks, table.dense, group, seed) or NO_BASELINE


def _print(report: DriftReport, out: Path | None) -> None:
    table = Table("measure", "value", "limit", "", title=f"{report.bundle}, {report.n} requests", title_justify="left")
    for one in report.measures:
        table.add_row(one.name, f"{one.value:.4f}", f"{one.limit:.4f}", "BEYOND" if one.is_beyond else "")
    if report.dense is not None:
        moved = "BEYOND" if "dense" in report.beyond else ""
        table.add_row("dense", f"{report.dense.distance:.4f}", f"p = {report.dense.p_value:.3f}", moved)
    for name, why in report.unknown.items():
        table.add_row(name, "", "", why)
    for why, n in report.left_out.items():
        table.add_row(f"{n} rows left out", "", "", why)
    console().print(table)
    if out is not None:
        print(f"page: {out}")
