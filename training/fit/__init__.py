"""The fit: from features and labels to a calibrated router.

Comes in: features of the rows, labels and groups. Goes out: weights, calibrators, exit band and unfamiliarity limit.
"""
