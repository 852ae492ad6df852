"""The pipeline of `turnout label`: logs to labels, and to vectors, in pieces, on one machine or on a cluster.

Comes in: files and settings. Goes out: rows in the order of the logs, the same on every engine and after a kill.

    files -> survey -> stretches of lines -> [ read, label, embed ] -> sorted rows -> labels.parquet
                                                   |        ^
                                                   v        |
                                  rows that others complete: spilled, put together by key

`survey` cuts files into stretches, `work` is what is done with one of them, on a `desk`, `engine` has Daft do it on
all, `spool` keeps what comes back, on disk and in order, `duplicates` leaves out what overlapping exports hold twice,
and `flow` is the way through them. What judges may be asked
lies on disk too (`judged`), until all rows have what labels there are without them. `turnout.training.logs.read` and
`turnout.training.labels.label_records` do the same in memory, row for row, for commands that need the rows at hand.
"""
