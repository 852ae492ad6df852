"""Features instead of prompts: a file of labels that can be trained from when neither logs nor prompts are kept.

`schema` says what it holds. For `training.pipeline` (`turnout label --keep features`) `columns` makes what a row has by
itself, `repeats` what ties it to others and `origin` what the metadata says; `reading` trains from it.
"""
