"""Turnout's serving side: prompt rendering, features, bundles and the gRPC router service.

Nothing in this package imports `training`, scikit-learn, torch, pyarrow or Daft.
"""
