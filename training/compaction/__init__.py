"""Compaction: a server's spool into Parquet that training reads, with retention and forgetting. Start at `compact`."""
