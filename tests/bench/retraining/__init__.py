"""Retraining on real outcomes: how often the gate errs, and the story from cold start to steady state."""
