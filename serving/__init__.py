"""Turnout's serving side: prompt rendering, features, bundles and the gRPC router service.

Nothing in this package imports `training`, scikit-learn, torch, pyarrow or Daft.
"""

from turnout.serving.quiet import keep_quiet

keep_quiet()  # before any import of a dependency that would otherwise call its maker
