"""Checks of the address to listen on, and of a running server: health, bundle, metrics, clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from turnout.serving.access.listening import PortTaken, check_free
from turnout.serving.cli.doctor.access import Way, why_unreachable
from turnout.serving.cli.doctor.finding import Finding, fail, ok, warn
from turnout.serving.cli.scrape import NotScraped, Snapshot, scrape
from turnout.serving.observe.catalog import PREFIX
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.settings import SettingsRefused, is_loopback
from turnout.serving.wire.route import DESCRIBE_MODEL_METHOD, SERVICE_NAME

EXPIRES_SOON_DAYS = 3.0
TIMEOUT_S = 2.0
MAX_SKEW_S = 5.0
"""Beyond it the times of logs and spans of two machines can't be put in order; HTTP dates are whole seconds."""

SUPERVISOR_SILENT_S = 60.0
"""As the alert TurnoutSupervisorHung; it looks after its workers once a second."""


def check_listen(listen: str) -> Finding:
    """Look whether a server could listen there, or already does."""
    try:
        check_free(listen)
    except PortTaken:
        status = health_of(Way(listen))
        if status == "SERVING":
            return ok("port", f"{listen} is taken by a server that says SERVING")
        return fail("port", f"{listen} is taken by another process", "stop it, or choose another with --listen")
    except SettingsRefused as error:
        return fail("port", str(error), "choose an address of this machine with --listen")
    return ok("port", f"{listen} is free" + ("" if is_loopback(listen) else "; reachable by others, without TLS"))


def check_server(way: Way | str) -> Iterator[Finding]:
    """Ask a running server for its health and its bundles, by TLS and with a token where the way has them."""
    way = Way(way) if isinstance(way, str) else way
    try:
        way.metadata()
        status = health_of(way)
    except OSError as error:
        yield fail("server", f"{error.filename}: {error.strerror}", "name files that this user can read")
        return
    if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN"):
        yield why_unreachable(way)
        return
    if status != "SERVING":
        yield fail("server", f"{way.address}: {status}", "look at its log; callers use the strong model meanwhile")
        return
    yield ok("server", f"{way.address}: {status}" + ("" if way.tls_ca is None else ", over TLS"))
    yield _bundle(way)


def _bundle(way: Way) -> Finding:
    try:
        described = describe(way)
    except grpc.RpcError as error:
        code, said = error.code(), error.details()
        if code == grpc.StatusCode.UNAUTHENTICATED and way.token_file is None:
            return warn(
                "token", f"{way.address} is well and lets in by token only", "give --token-file to look further"
            )
        if code == grpc.StatusCode.UNAUTHENTICATED:
            return fail("token", f"{way.token_file}: {said}", "take the token whose digest is in the server's --tokens")
        if code == grpc.StatusCode.PERMISSION_DENIED:
            return warn("token", str(said), "let it call DescribeModel, to see the bundle")
        return fail("server's bundle", f"DescribeModel: {code.name}", "look at its log")
    return ok("server's bundle", f"{described.bundle}, made {described.created}")


def health_of(way: Way) -> str:
    """Return the health that a server says of the routing service, or the gRPC code of the failure."""
    with way.channel() as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def describe(way: Way) -> Any:
    """Return the `DescribeModelResponse` of a server; raises `grpc.RpcError`."""
    with way.channel() as channel:
        call = channel.unary_unary(
            DESCRIBE_MODEL_METHOD,
            request_serializer=pb.DescribeModelRequest.SerializeToString,
            response_deserializer=pb.DescribeModelResponse.FromString,
        )
        return call(pb.DescribeModelRequest(), timeout=TIMEOUT_S, metadata=way.metadata())


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
    return [level, *_ends(seen), *_incidents(seen), *_lost(seen), *_weak(seen), *_expiry(seen), *_skew(seen)], n_ready


def _ends(seen: Snapshot) -> Iterator[Finding]:
    """Say how many workers hung or died since the service started, and whether the supervisor turns."""
    for cause, step in (
        ("hung", "look for `hung for` in the server's log: it says where"),
        ("ended", "look for `a worker ended` in the server's log"),
    ):
        if n_workers := round(seen.total(f"{PREFIX}worker_ends_total", cause=cause)):
            yield warn("workers", f"{n_workers} {cause} and were replaced since the service started", step)
    for beat in seen.matching(f"{PREFIX}supervisor_beat_timestamp_seconds"):
        silent_s = (seen.server_time_s or time.time()) - beat.value
        if silent_s > SUPERVISOR_SILENT_S:
            yield fail("supervisor", f"it has stood still for {silent_s:.0f} s", "restart: nobody replaces workers")


def _incidents(seen: Snapshot) -> Iterator[Finding]:
    incidents = round(seen.total(f"{PREFIX}failures_total", code="INTERNAL"))
    if incidents:
        yield warn("incidents", f"{incidents} since the server started", "look for `incident` in its log")


def _lost(seen: Snapshot) -> Iterator[Finding]:
    lost = round(seen.total(f"{PREFIX}decision_log_total", result="dropped"))
    if lost:
        written = round(seen.total(f"{PREFIX}decision_log_total", result="written"))
        found = f"{lost} decisions lost, {written} written since the server started"
        yield warn("decision log", found, "look at the disk of --spool: full, broken or slow")


def _weak(seen: Snapshot) -> Iterator[Finding]:
    """Say what share of the traffic goes weak, and why the rest does not."""
    total = seen.total(f"{PREFIX}decisions_total")
    if not total:
        return
    weak = seen.total(f"{PREFIX}decisions_total", route="weak")
    strong: dict[str, float] = {}
    for one in seen.matching(f"{PREFIX}decisions_total", route="strong"):
        strong[one.labels["reason"]] = strong.get(one.labels["reason"], 0.0) + one.value
    causes = ", ".join(
        f"{n / total:.0%} {reason}" for reason, n in sorted(strong.items(), key=lambda one: -one[1]) if n
    )
    found = f"{weak / total:.0%} of {total:.0f} decisions go weak" + (f"; strong: {causes}" if causes else "")
    if weak:
        yield ok("weak share", found)
    else:
        yield warn("weak share", found, "nothing is saved: look at policy, rules and --explain of turnout route")


def _expiry(seen: Snapshot) -> Iterator[Finding]:
    for one in seen.matching(f"{PREFIX}tls_expiry_timestamp_seconds"):
        days = (one.value - time.time()) / 86_400
        name = f"served, {one.labels['kind']}"
        if days < 0:
            yield fail("certificate", f"{name}: expired {-days:.1f} days ago", "renew it: every client fails")
        elif days < EXPIRES_SOON_DAYS:
            yield warn("certificate", f"{name}: {days:.1f} days left", "renew it soon")
        else:
            yield ok("certificate", f"{name}: {days:.1f} days left")


def _skew(seen: Snapshot) -> Iterator[Finding]:
    if seen.server_time_s is None:
        return
    skew_s = abs(time.time() - seen.server_time_s)
    if skew_s > MAX_SKEW_S:
        yield warn("clocks", f"the server's clock is {skew_s:.0f} s off this one", "let NTP set both")
