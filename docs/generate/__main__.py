"""Write the generated pages: `python -m docs.generate`, or with `--check` say which are out of date.

Comes in: the command line, the settings, the proto and the client as they are. Goes out: `docs/reference/*.md` and
`docs/llms.txt`, which stand in the repository so that they can be read without a site, and the version of `pyproject.toml`
in every file that says it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from docs.generate.client import client_page
from docs.generate.commands import commands_page
from docs.generate.configuration import configuration_page
from docs.generate.decisions import decisions_page
from docs.generate.llms import llms_text
from docs.generate.proto import proto_page
from docs.generate.version import PLACES, ROOT, versioned

DOCS = Path(__file__).resolve().parents[1]
PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/configuration.md": configuration_page,
    "reference/proto.md": proto_page,
    "reference/client.md": client_page,
    "decisions/index.md": decisions_page,
    "llms.txt": llms_text,
}
"""Every generated page by its place in docs/; the last one reads the others' titles."""


def stale() -> list[str]:
    """Return the files, from the root, whose text is not what would be written now."""
    old = [name for name in PLACES if (ROOT / name).read_text() != versioned(name)]
    pages = [f"docs/{name}" for name, page in PAGES.items() if not _is(DOCS / name, page())]
    return old + pages


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def main() -> int:
    """Write the pages, or check them; returns the exit code."""
    if "--check" in sys.argv[1:]:
        names = stale()
        print("\n".join(f"{name} is out of date: python -m docs.generate" for name in names), file=sys.stderr)
        return 1 if names else 0
    for name in PLACES:
        (ROOT / name).write_text(versioned(name), encoding="utf-8")
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
