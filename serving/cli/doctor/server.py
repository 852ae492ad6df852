"""Checks of the address to listen on, and of a running server: health, bundle, metrics, clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from turnout.serving.access.listening import PortTaken, check_free
from turnout.serving.cli.doctor.finding import Finding, fail, ok, warn
from turnout.serving.cli.scrape import NotScraped, Snapshot, scrape
from turnout.serving.observe.catalog import PREFIX
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.settings import SettingsRefused, is_loopback
from turnout.serving.wire.route import DESCRIBE_MODEL_METHOD, SERVICE_NAME

TIMEOUT_S = 2.0
MAX_SKEW_S = 5.0
"""Beyond it the times of logs and spans of two machines can't be put in order; HTTP dates are whole seconds."""


def check_listen(listen: str) -> Finding:
    """Look whether a server could listen there, or already does."""
    try:
        check_free(listen)
    except PortTaken:
        status = health_of(listen)
        if status == "SERVING":
            return ok("port", f"{listen} is taken by a server that says SERVING")
        return fail("port", f"{listen} is taken by another process", "stop it, or choose another with --listen")
    except SettingsRefused as error:
        return fail("port", str(error), "choose an address of this machine with --listen")
    return ok("port", f"{listen} is free" + ("" if is_loopback(listen) else "; reachable by others, without TLS"))


def check_server(address: str) -> Iterator[Finding]:
    """Ask a running server for its health and its bundles."""
    status = health_of(address)
    if status != "SERVING":
        yield fail("server", f"{address}: {status}", "look at its log; callers use the strong model meanwhile")
        return
    yield ok("server", f"{address}: {status}")
    try:
        described = describe(address)
    except grpc.RpcError as error:
        yield fail("server's bundle", f"DescribeModel: {error.code().name}", "look at its log")
        return
    yield ok("server's bundle", f"{described.bundle}, made {described.created}")


def health_of(address: str) -> str:
    """Return the health that a server says of the routing service, or the gRPC code of the failure."""
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def describe(address: str) -> Any:
    """Return the `DescribeModelResponse` of a server; raises `grpc.RpcError`."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            DESCRIBE_MODEL_METHOD,
            request_serializer=pb.DescribeModelRequest.SerializeToString,
            response_deserializer=pb.DescribeModelResponse.FromString,
        )
        return call(pb.DescribeModelRequest(), timeout=TIMEOUT_S)


def check_metrics(url: str) -> tuple[list[Finding], int | None]:
    """Scrape a server; return what was found, and how many workers are ready, None when it is not known."""
    try:
        seen = scrape(url)
    except NotScraped as error:
        return [fail("metrics", str(error), "start the server with --metrics HOST:PORT")], None
    workers = list(seen.matching(f"{PREFIX}worker_ready"))
    if not workers:
        return [fail("metrics", f"{url}: no metric of Turnout there", "another program listens there")], None
    n_ready = round(sum(worker.value for worker in workers))
    found = f"{url}: {n_ready} of {len(workers)} workers ready"
    level = ok("metrics", found) if n_ready == len(workers) else warn("metrics", found, "look at the server's log")
    return [level, *_incidents(seen), *_skew(seen)], n_ready


def _incidents(seen: Snapshot) -> Iterator[Finding]:
    incidents = round(seen.total(f"{PREFIX}failures_total", code="INTERNAL"))
    if incidents:
        yield warn("incidents", f"{incidents} since the server started", "look for `incident` in its log")


def _skew(seen: Snapshot) -> Iterator[Finding]:
    if seen.server_time_s is None:
        return
    skew_s = abs(time.time() - seen.server_time_s)
    if skew_s > MAX_SKEW_S:
        yield warn("clocks", f"the server's clock is {skew_s:.0f} s off this one", "let NTP set both")
