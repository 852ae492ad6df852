"""A synthetic log, and the demo that routes with what was learned from it.

Comes in: a number of rows and a seed. Goes out: a gateway's log, the same for the same seed.
"""
