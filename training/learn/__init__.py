"""Learning: the whole run, from labelled rows to a router with its figures.

Comes in: a dataset and settings. Goes out: a router ready to be published, newly fitted or recalibrated.
"""
