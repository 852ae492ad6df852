"""Errors of the training side.

turnout.serving.errors.TurnoutError
├── DataRefused      the logs can't be trained on, labelled or evaluated; exit code 1
├── EndpointRefused  the endpoint of judge or replay can't be used; what was paid is kept; exit code 1
├── CacheInUse       another run holds the cache of calls; exit code 1
├── EngineRefused    the engine can't be had: no cluster at the address; exit code 1
├── BatchPending     a batch is not done; run the same command later; exit code 5
├── TooFewYet        too few new rows to compare on; run the same command later; exit code 5
├── RetrainUnderWay  another retraining of the same name or store is at work; exit code 5
├── CallsMisused     the options of judge or replay can't be followed; exit code 2
└── MissingExtra     a command needs an extra that is not installed; exit code 2
"""

from __future__ import annotations

from turnout.serving.errors import EXIT_USAGE, TurnoutError, how_to_install

EXIT_PENDING = 5


class DataRefused(TurnoutError):
    """The data given is unreadable, of no known format, or too little for what was asked."""


class EndpointRefused(TurnoutError):
    """The endpoint refuses every call or can't be reached; all answers so far are in the cache."""


class CacheInUse(TurnoutError):
    """Two runs on one cache would pay for the same calls."""


class EngineRefused(TurnoutError):
    """The engine that was asked for can't be had."""


class BatchPending(TurnoutError):
    """A batch is under way; running the same command again collects it."""

    exit_code = EXIT_PENDING


class TooFewYet(TurnoutError):
    """Too few rows that the champion has not seen; the next run, with more logs, goes on."""

    exit_code = EXIT_PENDING


class RetrainUnderWay(TurnoutError):
    """Two retrainings of one name would each be held against a champion that the other replaces."""

    exit_code = EXIT_PENDING


class CallsMisused(TurnoutError):
    """Options of judge or replay that can't be followed: no key, a bad URL, a judge that is one of the pair."""

    exit_code = EXIT_USAGE


class MissingExtra(TurnoutError):
    """A command needs packages of an extra that is not installed."""

    exit_code = EXIT_USAGE

    def __init__(self, extra: str, missing: str) -> None:
        super().__init__(f"needs {missing}; {how_to_install(extra)}")
