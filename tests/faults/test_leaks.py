"""Faults of the server tell the caller an incident id and nothing else; no prompt reaches status or log."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import re
from pathlib import Path

import grpc
import pytest

from tests.running import refusal, route, server_in_loop, server_process
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.observe.incidents import report_incident
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.model import Prediction, RouterModel, Stage
from turnout.serving.router.prompt import Prompt

CANARY = "canary-in-the-mine"
INCIDENT = re.compile(r"incident [0-9a-f]{16}")


class ExplodingModel(RouterModel):
    """A model with a fault whose text quotes the prompt, as library errors do."""

    def __init__(self) -> None:
        pass

    def predict(self, prompt: Prompt, threshold: float, *, early_exit: bool = True) -> Prediction:
        del threshold, early_exit
        if CANARY in prompt.text:
            try:
                prompt.text.encode("ascii").decode(prompt.text)
            except LookupError as error:
                raise ValueError(f"could not read {prompt.text!r}") from error
        return Prediction(0.9, Stage.FAST)


@pytest.fixture
def exploding_bundle(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, model=ExplodingModel())


def raw_of(**fields: object) -> bytes:
    return pb.RouteRequest(**fields).SerializeToString()


def bad_requests() -> list[bytes]:
    """Return requests that hold the canary wherever a caller can put text, each wrong in another way."""
    return [
        raw_of(text=f"7 {CANARY}"),
        raw_of(text="hello", policy=CANARY),
        raw_of(text="hello", bundle=CANARY, request_id=CANARY),
        raw_of(text=CANARY, threshold=float("nan")),
        raw_of(text=CANARY)[:-4],
        bytes([2 << 3 | 2, len(CANARY) + 1]) + CANARY.encode() + b"\xff",
        raw_of(openai_body=f'{{"messages": "{CANARY}"}}'.encode()),
        raw_of(openai_body=f'{{"messages": [{{"role": {{"{CANARY}": 1}}, "content": "{CANARY}"}}]}}'.encode()),
        raw_of(openai_body=f'{{"messages": [{{"role": "user", "content": "{CANARY}'.encode()),
        raw_of(openai_body=json.dumps({CANARY: CANARY, "messages": [{"content": CANARY}]}).encode()),
        raw_of(openai_body=f'{{"{CANARY}": [}} {CANARY}'.encode() + b"\xff"),
        raw_of(openai_body=f'{{"messages": [], "response_format": "{CANARY}"}}'.encode()),
        raw_of(text=CANARY * 300_000),
    ]


def test_no_prompt_text_in_any_status_or_in_the_log(bundle_folder: Path, tmp_path: Path):
    with server_process(bundle_folder, tmp_path / "stderr.log") as server:
        statuses = [refusal(server.address, raw) for raw in bad_requests()]
        assert route(server.address, text=f"hello {CANARY}").model
        server.process.terminate()
        server.wait()
        printed = server.log.read_text() + (server.process.stdout.read() if server.process.stdout else "")
    assert all(CANARY not in details for _, details in statuses)
    assert CANARY not in printed
    assert INCIDENT.search(printed)


def test_nan_from_the_graph_is_internal_with_an_incident_id_only(server):
    code, details = refusal(server.address, raw_of(text="a prompt with 7 digits"))
    assert code == grpc.StatusCode.INTERNAL
    assert INCIDENT.fullmatch(details)
    assert details in server.log.read_text()


def test_unexpected_exception_is_internal_with_an_incident_id_only(
    exploding_bundle: Bundle, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)

    async def check() -> tuple[grpc.StatusCode, str]:
        async with server_in_loop(exploding_bundle) as (_, address):
            status = await asyncio.to_thread(refusal, address, raw_of(text=f"prompt with {CANARY}"))
            assert (await asyncio.to_thread(route, address, text="hello")).model == "gpt-4o-mini"
            return status

    code, details = asyncio.run(check())
    assert code == grpc.StatusCode.INTERNAL
    assert INCIDENT.fullmatch(details)
    assert CANARY not in caplog.text
    (record,) = [record for record in caplog.records if details in record.getMessage()]
    assert "builtins.ValueError at [" in record.getMessage()
    assert "<- builtins.LookupError at [" in record.getMessage()
    assert "test_leaks.py:" in record.getMessage()
    assert record.exc_info is None


def test_incident_of_a_self_referring_exception_ends(caplog: pytest.LogCaptureFixture):
    first, second = ValueError(CANARY), KeyError(CANARY)
    first.__cause__, second.__cause__ = second, first
    with caplog.at_level(logging.ERROR):
        report_incident(first)
    assert "ValueError at [] <- builtins.KeyError" in caplog.text
    assert CANARY not in caplog.text
