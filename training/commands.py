"""What the training commands do, as plain functions; `training.cli` only reads arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
from rich.table import Table

from serving.bundle import Pair, load_bundle, read_manifest
from serving.registry import find_encoder
from serving.tables import console, figures_table, policies_table
from training.assess import Assessment, CurvePoint, assess
from training.dataset import load_dataset
from training.encoders import load_encoder
from training.errors import DataRefused
from training.evaluate import Evaluation, flat, write_evaluation
from training.judge.settings import JudgeSettings
from training.labels import label_records
from training.logs import read_records
from training.predict import evaluate_bundle, predict_rows, write_parquet, write_predictions
from training.progress import Reporter
from training.recalibrate import RecalibrateSettings, recalibrate
from training.report import render_report
from training.train import EVALUATION_JSON, Trained, TrainSettings, embed_dataset, refuse_too_little, train

SHOWN_BASELINES: tuple[str, ...] = ("parent", "encoder_lr", "prompt_length", "random", "oracle")
LABEL_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("match", pa.int8()),
        ("labeller", pa.string()),
        ("label_confidence", pa.float64()),
        ("file", pa.string()),
        ("line", pa.int64()),
    ]
)


def label_logs(
    logs: Sequence[Path],
    out: Path,
    pair: Pair,
    columns: Mapping[str, str],
    margin: float,
    judge: JudgeSettings | None = None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Label logs, write one row a record, and print the ledger: in = labelled + abstained + quarantined."""
    reporter = Reporter(quiet=quiet)
    with reporter.stage("Reading and labelling"):
        read = read_records(logs, pair, columns)
        read.refuse_if_mostly_bad()
        found = label_records(read.records, margin=margin)
    judging = None
    if judge is not None:
        from training.judge.commands import label_by_judges, print_judging  # needs the extra `judge`

        judged = label_by_judges(read.records, found, pair, judge, out, reporter, as_json=as_json)
        if judged is None:
            return
        found, judging = judged
    labels = {(row.record.file, row.record.line): row.label for row in found.labelled}
    rows = [(record, labels.get((record.file, record.line))) for record in read.records]
    table = pa.table(
        {
            "id": [record.id for record, _ in rows],
            "match": [None if given is None else given.match for _, given in rows],
            "labeller": [None if given is None else given.labeller for _, given in rows],
            "label_confidence": [None if given is None else given.confidence for _, given in rows],
            "file": [record.file for record, _ in rows],
            "line": [record.line for record, _ in rows],
        },
        schema=LABEL_SCHEMA,
    )
    write_parquet(out, table)
    ledger = {
        "rows": read.n_rows,
        "labelled": found.by_labeller,
        "abstained": {str(why): count for why, count in found.unlabelled.items()},
        "quarantined": {str(why): count for why, count in read.rejected_by_reason.items()},
        "match_rate_by_task": _match_rates([(row.record.task or "", row.label.match) for row in found.labelled]),
    }
    if as_json:
        print(msgspec.json.encode(ledger | ({"judge": judging} if judging else {})).decode())
        return
    if judging is not None:
        print_judging(judging, out)
    _print_ledger(ledger, out)


def assess_logs(
    logs: Sequence[Path],
    encoder: str,
    pair: Pair,
    columns: Mapping[str, str],
    margin: float,
    seed: int,
    cache_dir: Path | None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit routers on more and more of the logs and print what each is worth."""
    reporter = Reporter(quiet=quiet)
    data = load_dataset(logs, pair, columns, margin, reporter).dataset
    refuse_too_little(data)
    table = embed_dataset(data, load_encoder(find_encoder(encoder)), cache_dir, reporter)
    found = assess(data, table, seed=seed, reporter=reporter)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        _print_assessment(found, pair)


def train_router(
    logs: Sequence[Path], out: Path, encoder: str, settings: TrainSettings, *, quiet: bool, as_json: bool
) -> None:
    """Train, and print figures, policies and where everything lies."""
    trained = train(logs, out, load_encoder(find_encoder(encoder)), settings, Reporter(quiet=quiet))
    _print_trained(trained, as_json=as_json)


def recalibrate_bundle(
    bundle: Path,
    logs: Sequence[Path],
    out: Path,
    encoder: str,
    settings: RecalibrateSettings,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Recalibrate, and print figures beside the parent's on the same rows, policies and where everything lies."""
    parent = load_bundle(bundle)
    model = load_encoder(find_encoder(encoder or parent.manifest.encoder.name))
    recalibrated = recalibrate(parent, logs, out, model, settings, Reporter(quiet=quiet))
    _print_trained(recalibrated, as_json=as_json)


def predict_file(
    bundle: Path,
    data: Sequence[Path],
    out: Path,
    policy: str,
    columns: Mapping[str, str],
    *,
    early_exit: bool,
    quiet: bool,
) -> None:
    """Write one prediction for each row of the data."""
    loaded, reporter = load_bundle(bundle), Reporter(quiet=quiet)
    chosen = loaded.manifest.policy(policy)
    read = read_records(data, loaded.manifest.pair, columns)
    rows = predict_rows(loaded, read.rows, chosen, early_exit=early_exit, reporter=reporter)
    write_predictions(out, rows)
    counts = Counter(f"{row.route} {row.reason}" for row in rows)
    print(f"{out}: {len(rows)} rows, policy {chosen.name}: " + ", ".join(f"{k} {v}" for k, v in counts.most_common()))


def evaluate_file(
    bundle: Path,
    data: Sequence[Path],
    out: Path | None,
    policy: str,
    columns: Mapping[str, str],
    margin: float,
    seed: int,
    *,
    early_exit: bool,
    include_seen: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Evaluate a bundle, write the JSON and print the figures."""
    loaded, reporter = load_bundle(bundle), Reporter(quiet=quiet)
    dataset = load_dataset(data, loaded.manifest.pair, columns, margin, reporter).dataset
    evaluation = evaluate_bundle(
        loaded,
        dataset,
        loaded.manifest.policy(policy),
        early_exit=early_exit,
        include_seen=include_seen,
        seed=seed,
        reporter=reporter,
    )
    if out is not None:
        write_evaluation(out, evaluation)
    if include_seen and evaluation.n_seen_in_training:
        reporter.say(
            f"Warning: {evaluation.n_seen_in_training} rows were seen in training; the figures flatter the bundle"
        )
    if as_json:
        print(msgspec.json.encode(evaluation).decode())
    else:
        print_evaluation(evaluation)


def write_report(bundle: Path, out: Path) -> None:
    """Render the report of a bundle again, from the figures it carries."""
    load_bundle(bundle)
    manifest = read_manifest(bundle)
    try:
        evaluation = msgspec.json.decode((bundle / EVALUATION_JSON).read_bytes(), type=Evaluation)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataRefused(f"{bundle / EVALUATION_JSON}: no evaluation to report on: {error}") from error
    print(render_report(manifest, evaluation, out))


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures with their intervals, the baselines beside them."""
    shown = [name for name in SHOWN_BASELINES if name in evaluation.baselines]
    seen = f"{evaluation.n_seen_in_training} rows seen in training"
    title = f"{evaluation.n} rows, match rate {evaluation.match_rate:.3f}; {seen}"
    baselines = {name: flat(evaluation.baselines[name]) for name in shown}
    console().print(figures_table(title, flat(evaluation), evaluation.intervals, baselines))


def _print_assessment(found: Assessment, pair: Pair) -> None:
    print(
        f"{found.labelled} usable rows in {found.groups} groups, {found.non_matches} with a worse weak answer; "
        f"{found.test_rows} rows kept apart to measure on"
    )
    table = Table(title="Learning curve (95 % intervals)", title_justify="left")
    for name in ("rows fitted", "AUROC", "APGR", f"to {pair.weak} at 99 % quality", "excess log loss"):
        table.add_column(name, justify="right")
    for point in found.curve:
        cells = [_with_interval(point, name) for name in ("auroc", "apgr", "share_at_quality.0.99")]
        table.add_row(str(point.rows), *cells, f"{point.excess_loss:+.4f} ± {point.excess_loss_se:.4f}")
    console().print(table)
    if found.enough_rows is None:
        print("Every step still helped: more rows are likely to help further.")
    else:
        print(f"Some {found.enough_rows} rows to fit on do as well as {found.curve[-1].rows}, within the noise.")


def _with_interval(point: CurvePoint, name: str) -> str:
    value, bounds = point.figures[name], point.intervals[name]
    if value is None or bounds is None:
        return "undefined"
    return f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})"


def _print_trained(trained: Trained, *, as_json: bool) -> None:
    out = trained.folder
    if as_json:
        print(_result_json(trained))
        return
    manifest = trained.manifest
    print_evaluation(trained.evaluation)
    console().print(policies_table(manifest))
    if trained.n_quarantined:
        print(f"{trained.n_quarantined} rows in quarantine: {out.parent / f'{out.name}.quarantine.jsonl'}")
    if trained.unlabelled:
        print("without a label: " + ", ".join(f"{why} {count}" for why, count in trained.unlabelled.items()))
    if manifest.synthetic:
        print("Trained on SYNTHETIC rows: these figures say nothing of real traffic.")
    if manifest.parent:
        print(f"recalibrated from {manifest.parent} by {manifest.calibrator}; ece, brier and log loss are cross-fitted")
    print(f"bundle {manifest.bundle_id}: {out}\nreport: {out / 'report' / 'index.html'}")


def _result_json(trained: Trained) -> str:
    result = {
        "bundle": str(trained.folder),
        "bundle_id": trained.manifest.bundle_id,
        "parent": trained.manifest.parent,
        "n_seen_in_training": trained.evaluation.n_seen_in_training,
        "metrics": trained.manifest.metrics,
        "intervals": trained.manifest.intervals,
        "policies": trained.manifest.policies,
        "quarantined": trained.n_quarantined,
        "unlabelled": trained.unlabelled,
    }
    return msgspec.json.encode(result).decode()


def _match_rates(rows: Sequence[tuple[str, int]]) -> dict[str, float]:
    totals, matches = Counter(task for task, _ in rows), Counter(task for task, match in rows if match)
    return {task: matches[task] / total for task, total in sorted(totals.items())}


def _print_ledger(ledger: dict[str, object], out: Path) -> None:
    table = Table("what", "count or rate", title=f"{ledger['rows']} rows in")
    for section, found in ledger.items():
        if isinstance(found, dict):
            for name, value in found.items():
                table.add_row(f"{section}: {name}", f"{value:.3f}" if isinstance(value, float) else str(value))
    console().print(table)
    print(out)
