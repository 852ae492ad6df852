"""What another policy would have cost and lost, from the decision log alone. Start at `replay`, read in `log`.

Comes in: decisions with their propensities, and outcomes. Goes out: estimates with intervals, and what was saved.
"""
