"""Paid calls: chat completions at any OpenAI-compatible endpoint, cached, capped and resumable.

Comes in: `Call`s from the judge or from replay. Goes out: what was kept of each answer, or why there is none.
Every request is written down before it leaves and again when its answer is there, so that a killed run
knows what it has paid for.
"""
