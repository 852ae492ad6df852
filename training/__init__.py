"""Turnout's training side: gateway logs in, calibrated router bundles out."""

from turnout.serving.quiet import keep_quiet

keep_quiet()  # before any import of a dependency that would otherwise call its maker
