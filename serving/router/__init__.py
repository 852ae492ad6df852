"""The router itself: from a prompt to its probability, without input or output.

Comes in: a request's messages and a loaded graph. Goes out: p_match, the stage that answered, and what decided.
"""
