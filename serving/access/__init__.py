"""Access: who may reach the server, and over what.

Comes in: addresses, certificates and tokens. Goes out: bound ports, TLS contexts, and callers with what each may do.
"""
