"""The report of a bundle: one page that a manager reads and an engineer checks.

Comes in: the bundle's manifest and its evaluation. Goes out: `index.html`, complete in itself, and the
figures as PNG and SVG. The same input gives the same bytes.
"""

from turnout.training.report.page import render_report

__all__ = ["render_report"]
