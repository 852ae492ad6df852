"""`turnout models`: bundles of the registry listed, added, compared, put into service, taken back, cleared away."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, validators
from rich.table import Table

from turnout.serving.bundles.adding import add_bundle
from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.bundles.entry import Change, Entry, names
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.mlflow_registry import Published, publish_versions
from turnout.serving.bundles.registry import models_folder
from turnout.serving.cli.options import AsJson, TrustedKey, say
from turnout.serving.cli.tables import console, number
from turnout.serving.errors import BundleRefused

SHOWN = ("auroc", "apgr", "ece")


Name = Annotated[str, Parameter(help="Name in the registry: models/NAME/VERSION/.")]
Models = Annotated[
    Path | None,
    Parameter(name="--models", help="Folder of the registry; without it $TURNOUT_MODELS, else our own."),
]


class Version(msgspec.Struct, frozen=True):
    """One version of a name, as it is listed."""

    name: str
    version: str
    created: str
    parent: str | None
    is_current: bool
    is_before: bool
    rows: int
    metrics: dict[str, float | None]


class BundleDifference(msgspec.Struct, frozen=True):
    """One thing in which two bundles differ; None where a bundle lacks it."""

    field: str
    a: float | str | None
    b: float | str | None


def list_models(*, models: Models = None, as_json: AsJson = False) -> None:
    """List all versions of all names, with parent and figures."""
    print_list(versions(_folder(models)), as_json=as_json)


def show(name: Name, /, *, models: Models = None, as_json: AsJson = False) -> None:
    """Show the versions of a name, the lineage of the one in service, and what was promoted when."""
    print_entry(_folder(models), name, as_json=as_json)


def diff(a: str, b: str, /, *, models: Models = None, as_json: AsJson = False) -> None:
    """Show in what two bundles differ: data, settings, figures, thresholds.

    Args:
        a: NAME (the version in service), NAME/VERSION, or a folder.
        b: The same.
    """
    print_differences(_folder(models), a, b, as_json=as_json)


def add(
    bundle: Path, name: Name, /, *, models: Models = None, trusted_key: TrustedKey = None, as_json: AsJson = False
) -> None:
    """Check a bundle and copy it into the registry; `models promote` puts it into service.

    Args:
        bundle: Folder of the bundle, trained with --name NAME.
    """
    version = add_bundle(_folder(models), bundle, name, trusted_key).version
    line = f"{name}/{version} added; put it into service with: turnout models promote {name} {version}"
    say(line, {"name": name, "version": version}, as_json=as_json)


def promote(
    name: Name, version: str, /, *, models: Models = None, trusted_key: TrustedKey = None, as_json: AsJson = False
) -> None:
    """Check a version as `bundle verify` does, then point CURRENT to it; servers follow within a second.

    Args:
        version: Version to put into service.
    """
    print_change(name, Entry(_folder(models), name).promote(version, trusted_key), as_json=as_json)


def rollback(name: Name, /, *, models: Models = None, trusted_key: TrustedKey = None, as_json: AsJson = False) -> None:
    """Point CURRENT back to the version of before; each further rollback takes back one more promotion."""
    print_change(name, Entry(_folder(models), name).rollback(trusted_key), as_json=as_json)


def prune(
    name: Name,
    /,
    *,
    keep: Annotated[int, Parameter(validator=validators.Number(gte=0))],
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Delete old versions; never the one in service, its parent, or the one that a rollback leads to.

    Args:
        keep: How many of the newest versions stay.
    """
    print_pruned(name, Entry(_folder(models), name).prune(keep), as_json=as_json)


def publish(name: Name, /, *, mlflow: str, models: Models = None, as_json: AsJson = False) -> None:
    """Put all versions of a name into MLflow's registry, with files, figures and lineage; again adds what is new.

    Needs the extra `mlflow`. The alias `champion` there names the version in service here.

    Args:
        mlflow: URI of an MLflow tracking server.
    """
    print_published(publish_versions(Entry(_folder(models), name), mlflow), as_json=as_json)


def _folder(models: Path | None) -> Path:
    return models_folder() if models is None else models


def versions(models: Path, only: Sequence[str] = ()) -> list[Version]:
    """Return all versions of the names, or of all names; the oldest of each name first."""
    found = []
    for name in only or names(models):
        entry = Entry(models, name)
        current, before = entry.current(), entry.before()
        for version, manifest in entry.versions().items():
            found.append(_version(name, version, manifest, current, before))
    return found


def _version(name: str, version: str, manifest: Manifest, current: str, before: str) -> Version:
    return Version(
        name=name,
        version=version,
        created=manifest.created,
        parent=manifest.parent,
        is_current=version == current,
        is_before=version == before,
        rows=sum(manifest.training.rows.values()),
        metrics={figure: manifest.metrics.get(figure) for figure in SHOWN},
    )


def differences(a: Manifest, b: Manifest) -> list[BundleDifference]:
    """Return in what two bundles differ: settings, rows, figures, and thresholds by policy."""
    sides = _flat(a), _flat(b)
    fields = dict.fromkeys([*sides[0], *sides[1]])
    return [
        BundleDifference(name, sides[0].get(name), sides[1].get(name))
        for name in fields
        if sides[0].get(name) != sides[1].get(name)
    ]


def find(models: Path, wanted: str) -> Path:
    """Return the folder of `name/version`, of the version of `name` in service, or of a path.

    Raises:
        BundleRefused: there is none.
    """
    name, _, version = wanted.partition("/")
    if (models / name).is_dir() and (version or Entry(models, name).current()):
        folder = models / name / (version or Entry(models, name).current())
        if folder.is_dir():
            return folder
    if Path(wanted).is_dir():
        return Path(wanted)
    raise BundleRefused(f"{wanted}: no such bundle; expected NAME, NAME/VERSION or a folder; see: turnout models list")


def print_list(found: Sequence[Version], *, as_json: bool) -> None:
    """Print versions, a line each."""
    if as_json:
        _print_json(found)
        return
    table = Table()
    for column in ("bundle", "", "created", "parent", "rows", *SHOWN):
        table.add_column(column, no_wrap=column not in ("bundle", "parent"), overflow="fold")
    for one in found:
        mark = "current" if one.is_current else "before" if one.is_before else ""
        figures = (number(one.metrics[figure]) for figure in SHOWN)
        table.add_row(f"{one.name}/{one.version}", mark, one.created[:16], one.parent or "", str(one.rows), *figures)
    console().print(table)


def print_entry(models: Path, name: str, *, as_json: bool) -> None:
    """Print the versions of a name, the line from the one in service back through its parents, and all changes."""
    entry = Entry(models, name)
    found, lineage, history = versions(models, [name]), _lineage(entry), entry.history()
    if as_json:
        _print_json({"versions": found, "lineage": lineage, "history": history})
        return
    print_list(found, as_json=False)
    print(f"lineage: {' <- '.join(lineage) or 'nothing in service'}")
    for change in history:
        print(change_line(name, change))


def change_line(name: str, change: Change) -> str:
    """Return a change as one line for people."""
    moment = dt.datetime.fromtimestamp(change.at_s, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ} {change.action} {name}: {change.before or 'none'} -> {change.version}"


def print_change(name: str, change: Change, *, as_json: bool) -> None:
    """Print a change."""
    if as_json:
        _print_json(change)
    else:
        print(change_line(name, change))


def print_differences(models: Path, a: str, b: str, *, as_json: bool) -> None:
    """Print in what two bundles differ."""
    found = differences(*(read_manifest(find(models, wanted)) for wanted in (a, b)))
    if as_json:
        _print_json(found)
        return
    table = Table()
    for column in ("field", a, b):
        table.add_column(column)
    for one in found:
        table.add_row(one.field, _cell(one.a), _cell(one.b))
    console().print(table)


def print_pruned(name: str, gone: Iterable[str], *, as_json: bool) -> None:
    """Print which versions are gone."""
    if as_json:
        _print_json(list(gone))
    else:
        print(f"{name}: deleted {', '.join(gone) or 'nothing'}")


def print_published(found: Sequence[Published], *, as_json: bool) -> None:
    """Print what stands in MLflow's registry, a line each."""
    if as_json:
        _print_json(found)
        return
    for one in found:
        became = "published as" if one.is_new else "is there as"
        print(f"{one.bundle} {became} version {one.version}{', champion' if one.is_champion else ''}")


def _lineage(entry: Entry) -> list[str]:
    """Return bundle ids from the version in service back through its parents; the last may not be here any more."""
    by_id = {one.bundle_id: one for one in entry.versions().values()}
    current = entry.versions().get(entry.current())
    lineage = [] if current is None else [current.bundle_id]
    while lineage and (one := by_id.get(lineage[-1])) and one.parent and one.parent not in lineage:
        lineage.append(one.parent)
    return lineage


def _flat(manifest: Manifest) -> dict[str, float | str | None]:
    training = manifest.training
    plain = {
        name: getattr(manifest, name)
        for name in ("version", "created", "parent", "calibrator", "exit_band", "feature_schema", "default_policy")
    }
    return {
        **plain,
        "encoder": f"{manifest.encoder.name} {manifest.encoder.sha256[:16]}",
        "data": training.data_sha256[:16],
        **{f"rows {part}": count for part, count in training.rows.items()},
        "match rate": training.match_rate,
        **manifest.metrics,
        **{f"threshold of {policy.name}": policy.threshold for policy in manifest.policies},
        **{f"share to weak under {policy.name}": policy.share_weak for policy in manifest.policies},
    }


def _cell(value: float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str("" if value is None else value)


def _print_json(value: Any) -> None:
    print(msgspec.json.encode(value).decode())
