"""Checks of what is installed: Python, dependencies against the ranges this version declares, extras."""

from __future__ import annotations

import importlib.metadata
import platform
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import turnout.serving
from turnout.serving.cli.doctor.finding import Finding, fail, ok, warn
from turnout.serving.errors import how_to_install

DISTRIBUTION = "turnout"
SHOWN_EXTRAS = ("http", "otel", "train", "encoders")
NEEDED = "serve"
"""Without this extra there is no command line that could say so; it is checked as what must be there."""
_PYPROJECT = Path(turnout.serving.__file__).resolve().parents[1] / "pyproject.toml"


def declared_requirements(pyproject: Path = _PYPROJECT) -> tuple[str, list[Requirement]]:
    """Return the range of Python versions and all requirements; those of extras have a marker that names it.

    A checkout's own pyproject.toml goes first: what was installed may be of another day.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"] if pyproject.is_file() else {}
    if project.get("name") == DISTRIBUTION:  # not what some other package left among the installed ones
        lines = list(project["dependencies"])
        for extra, more in project.get("optional-dependencies", {}).items():
            lines += [f'{line}{" and" if ";" in line else ";"} extra == "{extra}"' for line in more]
        return project["requires-python"], [Requirement(line) for line in lines]
    metadata = importlib.metadata.metadata(DISTRIBUTION)
    lines = metadata.get_all("Requires-Dist") or []
    return metadata["Requires-Python"] or "", [Requirement(line) for line in lines]


def check_installation(declared: tuple[str, list[Requirement]] | None = None) -> Iterator[Finding]:
    """Check Python, every dependency of serving, and which extras are complete."""
    python, requirements = declared or declared_requirements()
    yield _check_python(python)
    base = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": NEEDED})]
    troubles = [trouble for requirement in base if (trouble := _trouble(requirement))]
    if troubles:
        yield fail("dependencies", "; ".join(troubles), how_to_install(NEEDED))
    else:
        yield ok("dependencies", f"{len(base)} packages within their ranges")
    for extra in SHOWN_EXTRAS:
        yield _check_extra(extra, [requirement for requirement in requirements if extra in _extras_of(requirement)])


def _check_python(wanted: str) -> Finding:
    version = platform.python_version()
    if not SpecifierSet(wanted).contains(version, prereleases=True):
        return fail("Python", version, f"install a Python {wanted}")
    return ok("Python", f"{version}, {wanted} wanted")


def _check_extra(extra: str, requirements: list[Requirement]) -> Finding:
    """An extra that is absent is no fault; one installed in part, or out of range, will fail when used."""
    wanted = [requirement for requirement in requirements if requirement.name != DISTRIBUTION]
    troubles = [trouble for requirement in wanted if (trouble := _trouble(requirement))]
    check = f"extra {extra}"
    if not troubles:
        return ok(check, "installed")
    if len(troubles) == len(wanted):
        return ok(check, f"not installed ({how_to_install(extra)})")
    return warn(check, "; ".join(troubles), f"{how_to_install(extra)}, if you need it")


def _extras_of(requirement: Requirement) -> set[str]:
    if requirement.marker is None:
        return set()
    return {extra for extra in (NEEDED, *SHOWN_EXTRAS, "dev") if _holds_only_with(requirement, extra)}


def _holds_only_with(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _trouble(requirement: Requirement) -> str:
    """Return what is wrong with an installed package; empty when nothing is."""
    if (
        requirement.marker is not None
        and not _extras_of(requirement)
        and not requirement.marker.evaluate({"extra": ""})
    ):
        return ""
    try:
        version = Version(importlib.metadata.version(requirement.name))
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version}, expected {requirement.specifier}"
