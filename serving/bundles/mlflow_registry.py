"""Publishing to MLflow's registry: each version of a name becomes a model version there, files, figures and lineage.

Comes in: an `Entry` and the URI of an MLflow server. Goes out: what stands there now. MLflow is asked for only here,
by whoever has it installed; its usage statistics are off unless `MLFLOW_DISABLE_TELEMETRY=false` is set.

A version is known by its tag `turnout.bundle`, so that publishing again adds nothing and only moves the alias
`champion` to the version in service. The parent is named by the tags `turnout.parent` and, where it was
published, `turnout.parent_version`.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.errors import TurnoutError, how_to_install

BUNDLE, PARENT, PARENT_VERSION = "turnout.bundle", "turnout.parent", "turnout.parent_version"
CHAMPION = "champion"
ARTIFACTS = "bundle"


class MlflowRefused(TurnoutError):
    """MLflow is not installed, or its server does not do as asked."""


class Published(msgspec.Struct, frozen=True):
    """One version of a name in MLflow's registry.

    Attributes:
        bundle: `name/version`.
        version: its number there.
        is_new: whether it was put there just now.
        is_champion: whether the alias `champion` names it.
    """

    bundle: str
    version: str
    is_new: bool
    is_champion: bool


def publish_versions(entry: Entry, uri: str) -> list[Published]:
    """Put all versions of a name into the registry of an MLflow server, the oldest first.

    Args:
        entry: the name; also that of the registered model and of the experiment that holds the files.
        uri: of the tracking server, such as `http://127.0.0.1:5000`.

    Raises:
        MlflowRefused: MLflow is not installed, or the server refuses or can't be reached.
        BundleRefused: a version is damaged; those before it are published.
    """
    client, refusal = _client(uri)
    try:
        known = _known(client, entry.name)
        found = []
        for version, manifest in entry.versions().items():
            number, is_new = known.get(manifest.bundle_id), False
            if number is None:
                load_bundle(entry.folder / version)
                number, is_new = _put(client, entry, version, manifest, known), True
                known[manifest.bundle_id] = number
            is_champion = version == entry.current()
            if is_champion:
                client.set_registered_model_alias(entry.name, CHAMPION, number)
            found.append(Published(manifest.bundle_id, number, is_new, is_champion))
    except refusal as error:
        raise MlflowRefused(f"{uri}: MLflow refuses or can't be reached: {error}") from error
    return found


def _client(uri: str) -> tuple[Any, type[Exception]]:
    """Return a client and what it raises."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient  # noqa: PLC0415  # optional, and takes seconds
        from mlflow.exceptions import MlflowException  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        raise MlflowRefused(f"needs {missing.name}; {how_to_install('mlflow')}") from None
    return MlflowClient(uri, uri), MlflowException


def _known(client: Any, name: str) -> dict[str, str]:
    """Return the numbers of the versions published, by bundle; the registered model is made where there is none."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    found = client.search_model_versions(f"name = '{name}'")
    return {one.tags[BUNDLE]: str(one.version) for one in found if BUNDLE in one.tags}


def _put(client: Any, entry: Entry, version: str, manifest: Manifest, known: dict[str, str]) -> str:
    """Log a version's files and figures as a run, register it, and return its number."""
    experiment = client.get_experiment_by_name(entry.name)
    experiment_id = client.create_experiment(entry.name) if experiment is None else experiment.experiment_id
    run = client.create_run(experiment_id, run_name=manifest.bundle_id)
    tags = {BUNDLE: manifest.bundle_id, "turnout.data_sha256": manifest.training.data_sha256}
    if manifest.parent:
        tags[PARENT] = manifest.parent
        if manifest.parent in known:
            tags[PARENT_VERSION] = known[manifest.parent]
    for key, value in tags.items():
        client.set_tag(run.info.run_id, key, value)
    for key, setting in manifest.training.settings.items():
        client.log_param(run.info.run_id, key, setting)
    for key, figure in manifest.metrics.items():
        if figure is not None:
            client.log_metric(run.info.run_id, key, figure)
    client.log_artifacts(run.info.run_id, str(entry.folder / version), ARTIFACTS)
    client.set_terminated(run.info.run_id)
    source = f"{run.info.artifact_uri}/{ARTIFACTS}"
    return str(client.create_model_version(entry.name, source, run.info.run_id, tags).version)
