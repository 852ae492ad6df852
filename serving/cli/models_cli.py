"""The commands of `turnout models`; what opens bundles is imported when one of them is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

models_app = typer.Typer(
    help="List, compare, promote, roll back, prune and publish bundles of the registry.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Name in the registry: models/NAME/VERSION/.")]
Models = Annotated[
    Path | None, typer.Option("--models", help="Folder of the registry; without it $TURNOUT_MODELS, else our own.")
]
TrustedKey = Annotated[Path | None, typer.Option(help="Refuse a version that the owner of this key has not signed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@models_app.command("list")
def list_models(models: Models = None, as_json: AsJson = False) -> None:
    """List all versions of all names, with parent and figures."""
    from turnout.serving.cli.models import print_list, versions

    print_list(versions(_folder(models)), as_json=as_json)


@models_app.command()
def show(name: Name, models: Models = None, as_json: AsJson = False) -> None:
    """Show the versions of a name, the lineage of the one in service, and what was promoted when."""
    from turnout.serving.cli.models import print_entry

    print_entry(_folder(models), name, as_json=as_json)


@models_app.command()
def diff(
    a: Annotated[str, typer.Argument(help="NAME (the version in service), NAME/VERSION, or a folder.")],
    b: Annotated[str, typer.Argument(help="The same.")],
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Show in what two bundles differ: data, settings, figures, thresholds."""
    from turnout.serving.cli.models import print_differences

    print_differences(_folder(models), a, b, as_json=as_json)


@models_app.command()
def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="Version to put into service.")],
    models: Models = None,
    trusted_key: TrustedKey = None,
    as_json: AsJson = False,
) -> None:
    """Check a version as `bundle verify` does, then point CURRENT to it; servers follow within a second."""
    from turnout.serving.bundles.entry import Entry
    from turnout.serving.cli.models import print_change

    print_change(name, Entry(_folder(models), name).promote(version, trusted_key), as_json=as_json)


@models_app.command()
def rollback(name: Name, models: Models = None, trusted_key: TrustedKey = None, as_json: AsJson = False) -> None:
    """Point CURRENT back to the version of before; each further rollback takes back one more promotion."""
    from turnout.serving.bundles.entry import Entry
    from turnout.serving.cli.models import print_change

    print_change(name, Entry(_folder(models), name).rollback(trusted_key), as_json=as_json)


@models_app.command()
def prune(
    name: Name,
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest versions stay.")],
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Delete old versions; never the one in service, its parent, or the one that a rollback leads to."""
    from turnout.serving.bundles.entry import Entry
    from turnout.serving.cli.models import print_pruned

    print_pruned(name, Entry(_folder(models), name).prune(keep), as_json=as_json)


@models_app.command()
def publish(
    name: Name,
    mlflow: Annotated[str, typer.Option("--mlflow", help="URI of an MLflow tracking server.")],
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Put all versions of a name into MLflow's registry, with files, figures and lineage; again adds what is new.

    Needs the extra `mlflow`. The alias `champion` there names the version in service here.
    """
    from turnout.serving.bundles.entry import Entry
    from turnout.serving.bundles.mlflow_registry import publish_versions
    from turnout.serving.cli.models import print_published

    print_published(publish_versions(Entry(_folder(models), name), mlflow), as_json=as_json)


def _folder(models: Path | None) -> Path:
    from turnout.serving.bundles.registry import models_folder

    return models_folder() if models is None else models
