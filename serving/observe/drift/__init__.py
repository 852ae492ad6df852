"""Drift: whether live traffic is still that on which a bundle was measured, and its probabilities still hold."""
