"""Replay: rows with only the strong answer are sent to the weak model.

Comes in: logged requests and a budget. Goes out: rows with both answers, and what they cost.
"""
