"""The service: the path of a request inside a worker, from bytes to answer.

Comes in: RPCs of `RouterService`, from any protocol. Goes out: decisions, counted, logged and within their deadlines.
"""
