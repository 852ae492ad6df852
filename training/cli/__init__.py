"""The command line of training, one module a command.

Comes in: arguments. Goes out: files, text or JSON, and an exit code.
"""
