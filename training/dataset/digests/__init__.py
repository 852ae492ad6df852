"""Digests: routers learned from decision logs that keep no text (`turnout serve --log-decisions digest`).

`table` reads the rows that can teach, `near` finds which of them say nearly the same, `rows` makes a dataset of them.
"""
