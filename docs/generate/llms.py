"""llms.txt: every page with its title and first sentence, for programs that read documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
HEAD = """# Turnout

> Decides which LLM requests need the strong model (gpt-4o) and which the weak one (gpt-4o-mini) answers as well: learned
> from gateway logs, served over gRPC as a calibrated probability with policies that promise something. Whatever fails,
> the caller uses the strong model.

"""


def pages() -> list[Path]:
    """Return all pages of the site, in the order of the navigation; decisions last."""
    import yaml  # noqa: PLC0415  # of the extra `dev`

    class Loader(yaml.SafeLoader):
        """Reads mkdocs.yml, whose tags for Python names mean nothing here."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    navigation = yaml.load((DOCS.parent / "mkdocs.yml").read_text(), Loader)["nav"]  # noqa: S506  # a safe loader
    named = [DOCS / name for name in _leaves(navigation)]
    return [*named, *sorted((DOCS / "decisions").glob("*/*.md"))]


def llms_text() -> str:
    """Return the file."""
    lines = [f"- [{title}]({page.relative_to(DOCS)}): {first}" for page in pages() for title, first in [_opening(page)]]
    return HEAD + "## Pages\n\n" + "\n".join(lines) + "\n"


def _leaves(navigation: object) -> Iterator[str]:
    if isinstance(navigation, str):
        yield navigation
    elif isinstance(navigation, dict | list):
        for part in navigation.values() if isinstance(navigation, dict) else navigation:
            yield from _leaves(part)


def _opening(page: Path) -> tuple[str, str]:
    """Return a page's title and its first sentence."""
    text = re.sub(r"<!--.*?-->|^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    title, _, rest = text.lstrip().removeprefix("#").partition("\n")
    prose = next((block for block in rest.split("\n\n") if re.match(r"\s*[\w*`\[]", block)), "")
    sentence = re.split(r"(?<=[.:])\s", " ".join(prose.split()))[0]
    return title.strip(), re.sub(r"\[([^\]]+)\]\([^)]*\)|\*\*", r"\1", sentence)
