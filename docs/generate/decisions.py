"""The list of decision records, from their titles."""

from __future__ import annotations

import re
from pathlib import Path

DECISIONS = Path(__file__).resolve().parents[1] / "decisions"
HEAD = """# Decisions

<!-- written by python -m docs.generate from the records' titles -->
Choices with a figure behind them, a page each; the newest of a matter counts.
"""


def decisions_page() -> str:
    """Return the page: the records of training, then those of serving, in their order."""
    return HEAD + "".join(f"\n## {part.capitalize()}\n\n{_listed(part)}" for part in ("training", "serving"))


def _listed(part: str) -> str:
    lines = []
    for record in sorted((DECISIONS / part).glob("*.md")):
        title = record.read_text(encoding="utf-8").partition("\n")[0]
        title = re.sub(r"^# *\d{4}\W*", "", title)
        lines.append(f"- [{record.name[:4]}]({part}/{record.name}) {title}\n")
    return "".join(lines)
