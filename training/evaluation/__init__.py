"""Evaluation: what a router is worth, on rows that it has not seen.

Comes in: probabilities and outcomes. Goes out: metrics with intervals, slices, baselines and threshold tables.
"""
