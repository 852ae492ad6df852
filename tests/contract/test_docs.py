"""The documents say what is: links resolve, commands exist with their options, figures are those of the bundle."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from docs.generate.__main__ import stale
from docs.generate.commands import commands_page
from docs.generate.llms import pages
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.cli.app import COMMANDS, FOLDERS
from turnout.training.policy.policy import SOLVED_DELTA

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
WRITTEN = [page for page in PAGES if page.parent.name != "reference"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINES = re.compile(r"^(?:```(?:sh|bash|console|toml)?\n)(.*?)^```", re.MULTILINE | re.DOTALL)
LISTED = re.compile(r"^\* `([^`]*)`", re.MULTILINE)
GLOBAL = {"--config", "--prices", "--print-config", "--help", "--version"}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return what GitHub and the site call the headings of a page."""
    found: set[str] = set()
    for title in re.findall(r"^#{1,6} +(.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("\\_", "_").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_resolve(page: Path):
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@cache
def options() -> dict[str, set[str]]:
    """Return the options of every command, as the command line itself lists them."""
    sections = re.split(r"^##+ turnout ", commands_page(), flags=re.MULTILINE)[1:]
    return {
        section.partition("\n")[0]: GLOBAL | set(re.findall(r"--[a-z][a-z-]*", "\n".join(LISTED.findall(section))))
        for section in sections
    }


def commands_of(text: str) -> list[list[str]]:
    """Return the words of every `turnout COMMAND` in blocks and in code between backticks."""
    indented = re.findall(r"^    (.*)$", FENCE.sub("", text), re.MULTILINE)
    blocks = "\n".join([*LINES.findall(text), *indented]).replace("\\\n", " ")
    spans = re.findall(r"`(turnout [^`]+)`", FENCE.sub("", text).replace("\n", " "))
    found = []
    for line in [*blocks.splitlines(), *spans]:
        for part in re.findall(r"(?:^|[\s$(;&|])(turnout [a-z][^#;&|<>]*)", re.sub(r"full\|redacted\S*", "full", line)):
            try:
                words = shlex.split(part)
            except ValueError:
                words = part.split()
            found.append(words[1:])
    return found


def fault(words: list[str]) -> str | None:
    """Return what is wrong with a command line, or None."""
    two = " ".join(words[:2])
    command = two if two in COMMANDS else words[0]
    if command in FOLDERS and not words[1:2]:
        return None  # the folder as such
    if command not in COMMANDS:
        return f"no command {two}"
    unknown = [word.split("=")[0] for word in words if re.match(r"--[a-z]", word)]
    unknown = [word for word in unknown if word not in options()[command]]
    return f"{command}: no option {unknown}" if unknown else None


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_commands_exist_with_their_options(page: Path):
    said = [fault(words) for words in commands_of(page.read_text(encoding="utf-8")) if words]
    assert [one for one in said if one] == []


def test_every_command_that_ends_can_say_its_result_as_json():
    assert [name for name in COMMANDS if name != "serve" and "--json" not in options()[name]] == []


def test_commands_of_all_pages_are_looked_at():
    found = [words[0] for page in WRITTEN for words in commands_of(page.read_text(encoding="utf-8")) if words]
    assert len(found) > 100
    assert {name.split()[0] for name in COMMANDS} - set(found) == {"spool", "frontier"} - set(found)


def test_commands_that_do_not_exist_are_found():
    text = "```sh\nturnout serve --listen 1 --nope 2\n```\nand `turnout fly` and `turnout models list --json`."
    assert [fault(words) for words in commands_of(text)] == ["serve: no option ['--nope']", "no command fly", None]


def test_make_targets_exist():
    defined = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    spans = [span for page in PAGES for span in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))]
    assert len(spans) > 10
    assert set(spans) <= defined


def test_generated_pages_are_current():
    assert stale() == [], "python -m docs.generate"


def test_every_page_is_in_the_navigation():
    assert {page.resolve() for page in DOCS.rglob("*.md")} == {page.resolve() for page in pages()}


def test_figures_of_the_readme_are_the_bundles():
    manifest = json.loads((find_bundle() / "manifest.json").read_text(encoding="utf-8"))
    policies = {policy["name"]: policy for policy in manifest["policies"]}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(max_worse=[\d.]+)` \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) \|$", text, re.MULTILINE
    )
    assert len(rows) == 4
    for name, promised, share, looked, cost in rows:
        policy, checked = policies[name], policies[name]["checked"]
        assert policy["is_met"]
        assert checked["is_met"]
        assert float(promised) / 100 == pytest.approx(policy["target"])
        assert share == f"{100 * policy['share_weak']:.1f}"
        assert looked == f"{100 * checked['share_answered_weak']:.1f}"
        assert cost == f"{checked['cost_ratio']:.2f}"
    assert f"{round(manifest['metrics']['n']):,} public rows" in text


def test_rows_that_a_promise_needs_are_those_of_the_bound():
    for page in (ROOT / "README.md", DOCS / "policies.md"):
        text = page.read_text(encoding="utf-8")
        for target in (0.005, 0.01, 0.02, 0.05):
            n = math.ceil(math.log(SOLVED_DELTA) / math.log(1 - target))
            assert f"`max_worse={target:g}` | {n} |" in text or f"{n} ({100 * target:g} %)" in text


def test_the_site_is_built_without_a_warning_and_without_anything_from_elsewhere(tmp_path):
    pytest.importorskip("material", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    built = list((tmp_path / "site").rglob("*.html"))
    assert len(built) > 30
    for page in built:
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?([^\s\">]+)", page.read_text("utf-8"))
        assert [one for one in loaded if one.startswith(("http:", "https:", "//"))] == []


def test_the_version_is_said_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    package = json.loads((ROOT / "serving" / "gateways" / "typescript" / "package.json").read_text("utf-8"))
    assert package["version"] == version
    said = [
        found
        for page in PAGES
        for found in re.findall(r"turnout(?:-training)?[:-](\d+\.\d+\.\d+)", page.read_text("utf-8"))
    ]
    assert set(said) == {version}
    chart = (ROOT / "serving" / "deploy" / "chart" / "Chart.yaml").read_text("utf-8")
    parts = [ROOT / "serving" / "deploy" / part / "kustomization.yaml" for part in ("base", "registry")]
    tags = "".join(path.read_text("utf-8") for path in parts)
    numbers = [*re.findall(r"^(?:appV|v)ersion: (\S+)$", chart, re.MULTILINE), *re.findall(r"newTag: ([\d.]+)", tags)]
    assert numbers == [version] * 5
