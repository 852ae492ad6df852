"""What the training commands do, as plain functions; `turnout.training.cli.app` only reads arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.table import Table

from turnout.serving.bundles.bundle import Pair, load_bundle, read_manifest
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.cli.tables import console, figures_table, policies_table
from turnout.serving.observe.drift.watch import margin_of
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.assess.assess import KEPT_QUALITY, Assessment, assess
from turnout.training.bundle.publish import publish
from turnout.training.dataset.dataset import load_dataset
from turnout.training.dataset.load import load_rows
from turnout.training.encoders.encoders import load_encoder
from turnout.training.errors import DataRefused
from turnout.training.evaluation.evaluation import CurvePoint, Evaluation, flat, write_evaluation
from turnout.training.learn.learn import TrainSettings, features_of
from turnout.training.learn.predict import evaluate_bundle, predict_rows, write_predictions
from turnout.training.learn.recalibrate import RecalibrateSettings, recalibrate
from turnout.training.learn.train import EVALUATION_JSON, Trained, refuse_too_little, report_files, train
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.report import render_report

SHOWN_BASELINES: tuple[str, ...] = ("parent", "encoder_lr", "prompt_length", "random", "oracle")


def assess_logs(
    logs: Sequence[LogFile],
    encoder: str,
    pair: Pair,
    reading: Reading,
    margin: float,
    seed: int,
    cache_dir: Path | None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit routers on more and more of the logs and print what each is worth."""
    reporter = Reporter(quiet=quiet)
    rules = LATEST_HARNESS_RULES
    model = load_encoder(find_encoder(encoder))
    loaded = load_rows(logs, pair, reading, margin, model, rules, reporter)
    data = loaded.dataset
    refuse_too_little(data)
    table = features_of(loaded, model, cache_dir, reporter, rules)
    found = assess(data, table, pair, seed=seed, reporter=reporter)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        _print_assessment(found, pair)


def train_router(
    logs: Sequence[LogFile], out: Path, encoder: str, settings: TrainSettings, *, quiet: bool, as_json: bool
) -> None:
    """Train, and print figures, policies and where everything lies."""
    trained = train(logs, out, load_encoder(find_encoder(encoder)), settings, Reporter(quiet=quiet))
    _print_trained(trained, as_json=as_json)


def recalibrate_bundle(
    bundle: Path,
    logs: Sequence[LogFile],
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
    data: Sequence[LogFile],
    out: Path,
    policy: str,
    reading: Reading,
    *,
    early_exit: bool,
    quiet: bool,
) -> None:
    """Write one prediction for each row of the data."""
    loaded, reporter = load_bundle(bundle), Reporter(quiet=quiet)
    chosen = loaded.manifest.policy(policy)
    read = read_records(data, loaded.manifest.pair, reading)
    rows = predict_rows(loaded, read.rows, chosen, early_exit=early_exit, reporter=reporter)
    write_predictions(out, rows)
    counts = Counter(f"{row.route} {row.reason}" for row in rows)
    print(f"{out}: {len(rows)} rows, policy {chosen.name}: " + ", ".join(f"{k} {v}" for k, v in counts.most_common()))


def evaluate_file(
    bundle: Path,
    data: Sequence[LogFile],
    out: Path | None,
    policy: str,
    reading: Reading,
    margin: float | None,
    seed: int,
    *,
    early_exit: bool,
    include_seen: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Evaluate a bundle, write the JSON and print the figures."""
    loaded, reporter = load_bundle(bundle), Reporter(quiet=quiet)
    rules = loaded.manifest.harness_rules
    margin = margin_of(loaded.manifest) if margin is None else margin  # p_match is of that `match` and no other
    dataset = load_dataset(data, loaded.manifest.pair, reading, margin, reporter, rules).dataset
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


def write_report(bundle: Path, out: Path | None, evaluation: Path | None = None) -> None:
    """Render the report of a bundle again.

    Args:
        bundle: folder of the bundle.
        out: where to write it; None puts it into the bundle.
        evaluation: JSON to show; None for the figures that the bundle carries.
    """
    load_bundle(bundle)
    manifest, source = read_manifest(bundle), evaluation or bundle / EVALUATION_JSON
    try:
        found = msgspec.json.decode(source.read_bytes(), type=Evaluation)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataRefused(f"{source}: no evaluation to report on: {error}") from error
    if out is not None:
        print(render_report(manifest, found, out))
        return
    kept = {name: (bundle / name).read_bytes() for name in manifest.files if not name.startswith("report/")}
    publish(bundle, manifest, kept | report_files(manifest, found))
    print(bundle / "report" / "index.html")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures with their intervals, the baselines beside them."""
    shown = [name for name in SHOWN_BASELINES if name in evaluation.baselines]
    seen = f"{evaluation.n_seen_in_training} rows seen in training"
    out = f"{evaluation.share_out_of_distribution:.1%}"
    title = f"{evaluation.n} rows, match rate {evaluation.match_rate:.3f}; {seen}; {out} out of distribution"
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
    print(_savings_sentence(found, pair))


def _savings_sentence(found: Assessment, pair: Pair) -> str:
    savings = found.savings
    if savings is None:
        return f"Savings can't be said: {found.savings_unknown or f'no answer of {pair.strong} scored above 0'}."
    bounds = savings.interval
    between = f" ({bounds[0]:.3g} to {bounds[1]:.3g})" if bounds else ""
    return (
        f"At {KEPT_QUALITY:.0%} of {pair.strong}'s quality, in hindsight, {savings.saved_usd_per_1k:.3g}{between} of "
        f"{savings.strong_usd_per_1k:.3g} USD per 1,000 requests would be saved, the router paid for; a policy that "
        "promises something saves less."
    )


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
    if manifest.parent and manifest.verdict is None:
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
