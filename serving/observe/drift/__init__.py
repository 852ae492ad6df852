"""Drift: whether live traffic is still what a bundle was measured on, and its probabilities and promises still hold."""
