"""Decisions per second, latency, memory and cost beside what else an operator could run, in turns in one run.

prompts -> variants -> one turn each, round after round (start, latency, throughput, load) -> table
"""
