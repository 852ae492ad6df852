"""Features instead of prompts: a file of labels that can be trained from when neither logs nor prompts are kept.

`schema` says what it holds. `columns` makes what a row has by itself and `repeats` what ties it to others, for
`training.pipeline` (`turnout label --keep features`) and, where rows stand in memory, for `writing`; `reading` trains
from it.
"""
