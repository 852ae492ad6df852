"""Decisions over HTTP (extra `http`): the same handlers, queue and statuses as over gRPC, on a port of its own."""
