"""Style of the figures: colours, fonts, and how one figure becomes PNG, a file of SVG and SVG inside the page.

In the page's SVG every colour is a CSS variable, so that the page's light and dark colours are the figure's too,
and text stays text.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b2430", "#5b6675", "#dde2e8", "#fffffe"
ROUTER, ORACLE, OTHER, MISS = "#0b6e6e", "#8a5a00", "#7a828e", "#c2410c"
SECOND = "#5b3fb5"
"""Two looks, wherever one look is `ROUTER`."""
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    ROUTER: "router",
    ORACLE: "oracle",
    OTHER: "other",
    MISS: "miss",
    SECOND: "second",
}
_DPI, _SVG_DPI = 160, 72
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a model's name is a dollar
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "svg.fonttype": "none",
}


@dataclass(frozen=True, slots=True)
class SavedFigure:
    """One figure, saved three ways.

    Attributes:
        png: on white, 160 dots an inch.
        svg: a file of its own, on white.
        inline: for the page, without prologue, its colours CSS variables.
    """

    png: bytes
    svg: bytes
    inline: str


def save(figure: Figure, name: str) -> SavedFigure:
    """Return a figure as it is kept; the same figure gives the same bytes.

    Args:
        figure: drawn under `STYLE`.
        name: unique on the page: it begins every id of the inline SVG.
    """
    engine = figure.get_layout_engine()
    if engine is not None:  # laid out once, at the resolution of SVG: it takes as long as drawing
        figure.dpi = _SVG_DPI
        engine.execute(figure)
        figure.set_layout_engine("none")
    svg = _svg(figure, name)
    return SavedFigure(_png(figure), svg, _inline(svg.decode(), name))


def _png(figure: Figure) -> bytes:
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return raw.getvalue()


def _svg(figure: Figure, name: str) -> bytes:
    raw = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    return raw.getvalue()


def _inline(svg: str, name: str) -> str:
    """SVG for the inside of an HTML page: no prologue or namespaces, no paper, own ids, colours as variables."""
    text = svg[svg.index("<svg") :].replace("fill: #ffffff", "fill: none", 1)  # the figure's own patch comes first
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<!DOCTYPE.*?>", "", text, flags=re.DOTALL)
    text = (
        re.sub(r'\s(?:xmlns(?::xlink)?|width|height|version)="[^"]*"', "", text.split(">", 1)[0])
        + ">"
        + text.split(">", 1)[1]
    )
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"; ?font-family: [^;\"]*|font-family: [^;\"]*; ?", "", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return re.sub(r"\n\s*\n+", "\n", text).strip()
