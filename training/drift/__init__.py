"""Drift: the baseline that a bundle keeps of its test part, and `turnout drift`, which holds a log against it."""

from turnout.training.evaluation.drift_baseline import distribution, drift_baseline, p_match_by_task

__all__ = ["distribution", "drift_baseline", "p_match_by_task"]
