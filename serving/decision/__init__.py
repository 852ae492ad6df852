"""Decisions: from a probability to a route, by policy, rules and prices.

Comes in: p_match, thresholds and the operator's rules. Goes out: the tier, its reason, and what both ways cost.
"""
