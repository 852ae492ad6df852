"""Bad requests get the code of the contract and a clear message, and the server lives on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.builders import BUNDLE_ID, DEFAULT_POLICY
from tests.running import ServerProcess, refusal, route, route_raw
from turnout.serving.pb import router_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MIB = 1 << 20
TEXT_WITH_VARINT_TYPE = bytes([2 << 3 | 0, 5])
TEXT_TWICE_AS_LONG_AS_IT_IS = bytes([2 << 3 | 2, 200]) + b"short"
TEXT_NOT_UTF8 = bytes([2 << 3 | 2, 2]) + b"\xc3\x28"


@pytest.fixture(autouse=True)
def _server_lives_on(server: ServerProcess) -> Iterator[None]:
    yield
    assert route(server.address, text="hello").tier == pb.TIER_WEAK


def raw_of(**fields: object) -> bytes:
    return pb.RouteRequest(**fields).SerializeToString()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"", "no content", id="empty"),
        pytest.param(raw_of(text=""), "no content", id="empty text"),
        pytest.param(raw_of(text=" \n\t"), "no content", id="white space"),
        pytest.param(raw_of(messages=pb.Messages()), "no content", id="no messages"),
        pytest.param(raw_of(openai_body=b'{"messages": []}'), "no content", id="body without messages"),
        pytest.param(raw_of(request_id="only an id"), "no content", id="no content at all"),
        pytest.param(TEXT_WITH_VARINT_TYPE, "no content", id="wrong wire type"),
        pytest.param(TEXT_NOT_UTF8, "undecodable or not UTF-8", id="invalid UTF-8"),
        pytest.param(TEXT_TWICE_AS_LONG_AS_IT_IS, "undecodable", id="truncated"),
        pytest.param(b"\xff" * 50, "undecodable", id="garbage"),
        pytest.param(raw_of(openai_body=b""), "openai_body", id="empty body"),
        pytest.param(raw_of(openai_body=b"{"), "openai_body", id="broken JSON"),
        pytest.param(raw_of(openai_body=b"\xff\xfe"), "openai_body", id="body not UTF-8"),
        pytest.param(raw_of(openai_body=b'{"messages": 7}'), "openai_body", id="body of another shape"),
        pytest.param(raw_of(openai_body=b"[" * 100_000), "openai_body", id="deep JSON"),
        pytest.param(raw_of(text="hello", threshold=float("nan")), "threshold", id="NaN threshold"),
        pytest.param(raw_of(text="hello", threshold=float("inf")), "threshold", id="infinite threshold"),
        pytest.param(raw_of(text="hello", threshold=-0.01), "threshold", id="negative threshold"),
        pytest.param(raw_of(text="hello", threshold=1.01), "threshold", id="threshold above 1"),
        pytest.param(raw_of(text="x" * 5 * MIB), f"at most {4 * MIB}", id="5 MiB"),
        pytest.param(raw_of(text="x" * 10_000_000), f"at most {4 * MIB}", id="10 MB"),
    ],
)
def test_bad_request_is_an_invalid_argument_that_says_why(server: ServerProcess, raw: bytes, says: str):
    code, details = refusal(server.address, raw)
    assert code == INVALID
    assert says in details
    assert len(details) < 300


def test_over_the_transport_limit_is_resource_exhausted(server: ServerProcess):
    code, _ = refusal(server.address, raw_of(text="x" * (17 * MIB)))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_just_under_the_limit_is_answered(server: ServerProcess):
    assert route(server.address, text="x" * (4 * MIB - 100)).reason == pb.REASON_TOO_LONG


def test_unknown_policy_is_not_found_and_lists_the_known(server: ServerProcess):
    code, details = refusal(server.address, raw_of(text="hello", policy="no_such_policy"))
    assert code == grpc.StatusCode.NOT_FOUND
    assert DEFAULT_POLICY in details
    assert "max_worse=0.05" in details
    assert "no_such_policy" not in details


@pytest.mark.parametrize("name", ["other", "tiny/2", "tiny/", "../tiny"])
def test_unknown_bundle_is_not_found_and_names_the_served(server: ServerProcess, name: str):
    code, details = refusal(server.address, raw_of(text="hello", bundle=name))
    assert code == grpc.StatusCode.NOT_FOUND
    assert details.endswith(BUNDLE_ID)


@pytest.mark.parametrize(
    "text",
    ["a", "\0", "\N{FULL BLOCK}" * 60_000, "e" + "\u0301" * 5_000, "\u202eabc", "\U0001f682" * 2_000, "\r\n.\r\n"],
    ids=["one byte", "NUL", "180 kB", "combining marks", "right to left", "emoji", "line ends"],
)
def test_odd_text_is_answered(server: ServerProcess, text: str):
    assert route(server.address, text=text).model in {"gpt-4o", "gpt-4o-mini"}


@pytest.mark.parametrize("escape", ["\\ud800", "\\udfff\\ud800", "\\u0000"])
def test_odd_escapes_in_a_body_are_answered_or_invalid(server: ServerProcess, escape: str):
    body = b'{"messages": [{"role": "user", "content": "hello %s"}]}' % escape.encode()
    try:
        assert route_raw(server.address, raw_of(openai_body=body)).model
    except grpc.RpcError as error:
        assert error.code() == INVALID  # noqa: PT017


def test_fields_that_do_not_matter_may_be_anything(server: ServerProcess):
    body = {"messages": [{"role": "user", "content": "hello", "name": 7}], "temperature": "hot", "unknown": [None]}
    assert route(server.address, openai_body=json.dumps(body).encode()).tier == pb.TIER_WEAK


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(b"\x0a\x01\xff")
@given(st.binary(max_size=60))
def test_any_bytes_get_an_answer_or_a_code_of_the_contract(server: ServerProcess, raw: bytes):
    contract = {INVALID, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL}  # a digit is NaN: INTERNAL
    try:
        assert route_raw(server.address, raw).model
    except grpc.RpcError as error:
        assert error.code() in contract  # noqa: PT017
