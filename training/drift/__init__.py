"""Drift: a log held against the baseline that a bundle keeps of the rows it was measured on.

Comes in: a log, or its decisions. Goes out: a report of what has moved, as page and as table.
"""
