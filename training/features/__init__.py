"""Features instead of prompts: a file of labels that can be trained from when neither logs nor prompts are kept.

`writing` makes it (`turnout label --keep features`), `reading` trains from it, `schema` says what it holds.
"""
