"""Errors of the training side.

serving.errors.TurnoutError
├── DataRefused      the logs can't be trained on, labelled or evaluated; exit code 1
└── MissingExtra     a command needs an extra that is not installed; exit code 2
"""

from __future__ import annotations

from serving.errors import EXIT_USAGE, TurnoutError


class DataRefused(TurnoutError):
    """The data given is unreadable, of no known format, or too little for what was asked."""


class MissingExtra(TurnoutError):
    """A command needs packages of an extra that is not installed."""

    exit_code = EXIT_USAGE

    def __init__(self, extra: str, missing: str) -> None:
        super().__init__(f"needs {missing}, which is not installed; get it with: pip install 'turnout[{extra}]'")
