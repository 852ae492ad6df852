"""The server as a process: a supervisor, its workers, and what each is told while it runs.

Comes in: settings, signals and orders. Goes out: a port that answers, whatever worker dies or is replaced.
"""
