"""Gateways: plug-ins and clients that run in the caller's process. docs/gateways lists them.

Comes in: a gateway's own request. Goes out: the model to call, the strong one whenever routing fails.
"""
