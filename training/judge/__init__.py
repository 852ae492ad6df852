"""Judge: a language model compares the two answers of rows that no other labeller could decide.

Comes in: questions, read from disk as they are asked. Goes out: labels, the verdicts behind them, and what they cost.
"""
