"""The dataset: labelled rows as arrays, in groups that never straddle a split.

Comes in: labels, features files or digests. Goes out: features, outcomes, groups and the split.
"""
