"""The command line of serving, one module a command.

Comes in: arguments. Goes out: text or JSON, and an exit code.
"""
