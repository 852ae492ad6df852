"""Compaction: a server's spool into Parquet that training reads, with retention and forgetting. Start at `compact`.

Comes in: sealed files of the spool. Goes out: days of decisions joined to their outcomes, without what was forgotten.
"""
