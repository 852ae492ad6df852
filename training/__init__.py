"""Turnout's training side: gateway logs in, calibrated router bundles out."""
