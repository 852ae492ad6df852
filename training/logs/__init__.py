"""Logs: any file that a gateway writes, as records.

Comes in: files, folders, patterns and URLs. Goes out: `Record`s, and in the quarantine what could not be read, with
its reason.
"""
