"""Logs: any file that a gateway writes, as records.

Comes in: files, folders, patterns and URLs. Goes out: `Record`s, and in the quarantine what could not be read, with
its reason.

`lines`, `tables` (bytes to rows of named fields) -> `readers` (one module a gateway: which rows are its own, and their
fields in our names) -> `entries` (one file) -> `parts` (requests that a log spreads over several rows) -> `rows`
(fields to `Record`) -> `read` (all files) -> `join` (the two models' answers to one request).
`turnout.training.pipeline` does the same, and labels, in pieces.
"""
