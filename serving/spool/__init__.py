"""The spool: what the server takes in for later, on disk before anyone is told. Format: docs/operate/decision-log.md.

Comes in: outcomes, decisions, and counts that workers add up. Goes out: framed records in sealed files, each whole or
known as damaged, and the counts of all workers.
"""
