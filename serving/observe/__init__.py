"""The server seen from outside: metrics, traces, logs, alerts and drift.

Comes in: what the service did. Goes out: counts and spans, without a word of any prompt.
"""
