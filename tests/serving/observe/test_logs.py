"""Log lines: JSON or text, and neither prompts nor exceptions' texts in any."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from tests.running import refusal
from tests.watching import watched_server
from turnout.serving.observe.incidents import report_incident
from turnout.serving.observe.logs import LogFormat, set_up_logging
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_BATCH_METHOD, ROUTE_METHOD

CANARY = "canary-in-the-mine"


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Put the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(log_format: LogFormat, log: object) -> str:
    stream = io.StringIO()
    set_up_logging(log_format, stream)
    log()
    return stream.getvalue()


def raise_and_log(logger: str) -> None:
    try:
        json.loads(f"[{CANARY}")
    except ValueError:
        logging.getLogger(logger).exception("it went wrong after %d s", 3)


@pytest.mark.usefixtures("root_logger")
def test_json_line_has_time_level_logger_and_message():
    before = datetime.now(UTC)
    line = json.loads(logged(LogFormat.JSON, lambda: logging.getLogger("turnout.server").warning("draining: %d s", 2)))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert abs((datetime.fromisoformat(line["time"]) - before).total_seconds()) < 10
    assert {name: line[name] for name in ("level", "logger", "message")} == {
        "level": "WARNING",
        "logger": "turnout.server",
        "message": "draining: 2 s",
    }
    assert set(line) == {"time", "level", "logger", "message", "pid"}


@pytest.mark.usefixtures("root_logger")
@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("logger", ["turnout.server", "grpc._cython.cygrpc"])
def test_text_of_exceptions_is_left_out_and_their_frames_are_kept(log_format: LogFormat, logger: str):
    text = logged(log_format, lambda: raise_and_log(logger))
    assert CANARY not in text
    assert text.count("\n") == 1
    assert "JSONDecodeError at [test_logs.py:" in text
    assert "<- builtins.StopIteration" in text
    assert ("after 3 s" in text) == logger.startswith("turnout")


@pytest.mark.usefixtures("root_logger")
@pytest.mark.parametrize("log_format", LogFormat)
def test_lost_task_of_asyncio_does_not_leak_its_exception(log_format: LogFormat):
    async def fail() -> None:
        raise ValueError(CANARY)

    async def lose_a_task() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        del task
        await asyncio.sleep(0)

    text = logged(log_format, lambda: asyncio.run(lose_a_task()))
    assert "Task exception was never retrieved" in text
    assert CANARY not in text


@pytest.mark.usefixtures("root_logger")
def test_incident_has_a_field_of_its_own():
    ids: list[str] = []
    line = json.loads(logged(LogFormat.JSON, lambda: ids.append(report_incident(ValueError(CANARY)))))
    assert line["incident"] == ids[0]
    assert line["level"] == "ERROR"


def test_server_logs_json_lines_only_and_the_incident_that_the_caller_was_told(bundle_folder: Path, tmp_path: Path):
    log = tmp_path / "stderr.log"
    with watched_server(bundle_folder, log, "--log-format", "json") as (server, url):
        raw = pb.RouteRequest(text=f"{CANARY} 7").SerializeToString()
        _, details = refusal(server.address, raw)
        server.process.terminate()
        assert server.wait() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert f"metrics on {url}" in [line["message"] for line in lines]
    assert [line["incident"] for line in lines if "incident" in line] == [details.removeprefix("incident ")]
    assert CANARY not in log.read_text()


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BAD = "not a number: 7"
"""A prompt on which the model of these tests fails, as a fault of ours."""


def provoke(address: str, *requests: pb.RouteRequest) -> None:
    """Have the server fail on a prompt, one call or a batch, under a trace."""
    with grpc.insecure_channel(address) as channel:
        metadata = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),)
        if len(requests) == 1:
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(ROUTE_METHOD, pb.RouteRequest.SerializeToString)(
                    requests[0], timeout=60, metadata=metadata
                )
            return
        batch = channel.unary_unary(ROUTE_BATCH_METHOD, pb.RouteBatchRequest.SerializeToString)
        batch(pb.RouteBatchRequest(requests=requests), timeout=60, metadata=metadata)


@pytest.mark.slow
@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("workers", [1, 2])
def test_lines_of_a_request_name_it_and_its_trace(
    bundle_folder: Path, tmp_path: Path, log_format: LogFormat, workers: int
):
    options = ("--log-format", log_format)
    with watched_server(bundle_folder, tmp_path / "log", *options, workers=workers) as (server, _):
        provoke(server.address, pb.RouteRequest(text=BAD, request_id="order-7"))
        provoke(server.address, *(pb.RouteRequest(text=BAD, request_id=f"item-{n}") for n in range(2)))
        provoke(server.address, pb.RouteRequest(text=BAD, request_id=f"tell me of the {CANARY}"))
        provoke(server.address, pb.RouteRequest(text=BAD))
        text = server.log.read_text()
    lines = [line for line in text.splitlines() if "incident " in line]
    if log_format is LogFormat.JSON:
        found = [(line.get("request_id"), line.get("trace_id")) for line in map(json.loads, lines)]
    else:
        found = [
            tuple(
                match and match[1] for match in (re.search(r" request=(\S+)", line), re.search(r" trace=(\S+)", line))
            )
            for line in lines
        ]
    assert sorted(found, key=str) == sorted(
        [("order-7", TRACE), ("item-0", TRACE), ("item-1", TRACE), (None, TRACE), (None, TRACE)], key=str
    )
    assert CANARY not in text
    assert BAD not in text


def test_line_outside_of_a_request_names_none(bundle_folder: Path, tmp_path: Path):
    with watched_server(bundle_folder, tmp_path / "log", "--log-format", "json") as (server, _):
        provoke(server.address, pb.RouteRequest(text=BAD, request_id="order-7"))
        server.process.terminate()
        assert server.wait() == 0
        last = json.loads(server.log.read_text().splitlines()[-1])
    assert set(last) == {"time", "level", "logger", "message", "pid"}
