"""`turnout predict`: for each prompt of a file, where it would go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.cli.options import AsJson, Flag, say
from turnout.training.cli.options import FILES, BundleFolder, EarlyExit, FileOptions, Flat, Logs, PolicyName
from turnout.training.learn.predict import predict_rows, write_predictions
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.sources import check_out, find_logs
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter


def predict(
    bundle: BundleFolder,
    data: Logs,
    /,
    *,
    out: Path,
    policy: PolicyName = "",
    early_exit: EarlyExit = True,
    files: Annotated[FileOptions, Flat] = FILES,
    quiet: Flag = False,
    as_json: AsJson = False,
) -> None:
    """Say for each prompt where it would go; needs no scores and no answers.

    Args:
        out: Parquet file to write: one row an input row, in input order.
        quiet: No progress on stderr.
    """
    found = find_logs(data)
    check_out(out, found, bundle)
    predict_file(bundle, found, out, policy, files.reading, early_exit=early_exit, quiet=quiet, as_json=as_json)


def predict_file(
    bundle: Path,
    data: Sequence[LogFile],
    out: Path,
    policy: str,
    reading: Reading,
    *,
    early_exit: bool,
    quiet: bool,
    as_json: bool = False,
) -> None:
    """Write one prediction for each row of the data."""
    loaded, reporter = load_bundle(bundle), Reporter(quiet=quiet)
    chosen = loaded.manifest.policy(policy)
    read = read_records(data, loaded.manifest.pair, replace(reading, prompts_only=True))
    for notice in read.notices:
        reporter.say(notice)
    if read.other_pairs:
        names = ", ".join(f"{name} ({count} rows)" for name, count in read.other_pairs.most_common(10))
        reporter.say(
            f"rows name other models than the bundle's pair: {names}; only their prompts count, their answers don't"
        )
    rows = predict_rows(loaded, read.rows, chosen, early_exit=early_exit, reporter=reporter)
    write_predictions(out, rows)
    counts = Counter(f"{row.route} {row.reason}" for row in rows)
    line = f"{out}: {len(rows)} rows, policy {chosen.name}: " + ", ".join(f"{k} {v}" for k, v in counts.most_common())
    say(line, {"out": out, "rows": len(rows), "policy": chosen.name, "routes": dict(counts)}, as_json=as_json)
