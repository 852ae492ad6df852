"""Protocols: other ways to the same service, on ports of the server.

Comes in: HTTP, Envoy's ext_proc, the open inference protocol. Goes out: the service's answers in their words.
"""
