"""Drift: whether live traffic is still that on which a bundle was measured, and probabilities and promises still hold."""
