"""Policies: thresholds with promises.

Comes in: probabilities and outcomes of rows kept for it. Goes out: for each promise its threshold, or that none is
safe.
"""
