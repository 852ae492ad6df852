"""The open inference protocol over a socket: clients that others wrote, and requests that are wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gates import BLOCKER, GatedModel, until
from tests.http_calls import HttpProcess
from tests.running import environment, route, server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import open_inference_pb2 as v2
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.protocols.open_inference import SERVICE_NAME, read_inference
from turnout.serving.service.status import PUSHBACK_KEY
from turnout.serving.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = ROOT / "tests" / "gateways" / "clients"
TRITON_PYTHON = ROOT / ".venv-triton" / "bin" / "python"
TEXTS = ["hello", "word " * 60, "Grüße, 世界"]
TOO_LONG = "x" * 400_000


def python_of(client: str) -> str:
    if client == "open_inference_grpc":
        return sys.executable
    if not TRITON_PYTHON.exists():
        pytest.skip("tritonclient has an environment of its own: make test-triton")
    return str(TRITON_PYTHON)


@pytest.mark.parametrize("client", ["open_inference_grpc", "triton"])
def test_clients_of_others_get_the_decisions_of_route(http_process: HttpProcess, client: str):
    command = [python_of(client), str(CLIENTS / f"{client}.py"), http_process.grpc, "tiny", *TEXTS]
    environ = environment() if client == "open_inference_grpc" else None
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    decisions = [route(http_process.grpc, text=text) for text in TEXTS]
    assert told.pop("p_match") == [as_fp32(one.p_match) for one in decisions]
    assert told == {
        "live": True,
        "ready": True,
        "model_ready": True,
        "other_ready": False,
        "server": "turnout",
        "inputs": [["text", "BYTES", [-1]]],
        "outputs": [["p_match", "FP32", [-1]], ["model", "BYTES", [-1]]],
        "id": "r-1",
        "model": [one.model for one in decisions],
    }


def as_fp32(number: float) -> float:
    return struct.unpack("<f", struct.pack("<f", number))[0]


def tensor(*texts: str | bytes, **fields: Any) -> Any:
    elements = [text if isinstance(text, bytes) else text.encode() for text in texts]
    defaults: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [len(texts)]}
    contents = v2.InferTensorContents(bytes_contents=elements)
    return v2.ModelInferRequest.InferInputTensor(**defaults | {"contents": contents} | fields)


def request(*texts: str | bytes, **fields: Any) -> Any:
    return v2.ModelInferRequest(**{"model_name": "tiny", "inputs": [tensor(*texts)]} | fields)


def infer(address: str, asked: Any) -> Any:
    raw = asked if isinstance(asked, bytes) else asked.SerializeToString()
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            f"/{SERVICE_NAME}/ModelInfer", response_deserializer=v2.ModelInferResponse.FromString
        )
        return method(raw, timeout=60)


def p_matches(reply: Any) -> list[float]:
    return list(next(one for one in reply.outputs if one.name == "p_match").contents.fp32_contents)


def parameter(**choice: Any) -> Any:
    return v2.InferParameter(**choice)


def test_element_without_a_model_is_not_a_number_and_has_its_route(http_process: HttpProcess):
    reply = infer(http_process.grpc, request("hello", TOO_LONG))
    assert not math.isnan(p_matches(reply)[0])
    assert math.isnan(p_matches(reply)[1])
    assert list(reply.outputs[1].contents.bytes_contents) == [b"gpt-4o-mini", b"gpt-4o"]
    assert (reply.model_name, reply.model_version) == ("tiny", "1")


def test_threshold_and_policy_choose_the_model(http_process: HttpProcess):
    def models(**parameters: Any) -> list[bytes]:
        reply = infer(http_process.grpc, request("hello", parameters=parameters))
        return list(reply.outputs[1].contents.bytes_contents)

    assert models(threshold=parameter(double_param=1.0)) == [b"gpt-4o"]
    assert models(policy=parameter(string_param="max_worse=0.05")) == [b"gpt-4o-mini"]


def test_shape_of_the_input_is_that_of_the_outputs(http_process: HttpProcess):
    asked = request(inputs=[tensor("a", "b", shape=[2, 1])], outputs=[{"name": "p_match"}])
    (output,) = infer(http_process.grpc, asked).outputs
    assert (output.name, list(output.shape), output.datatype) == ("p_match", [2, 1], "FP32")
    assert p_matches(infer(http_process.grpc, request(inputs=[tensor()]))) == []


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("INVALID_ARGUMENT", b"\xff"),
        ("INVALID_ARGUMENT", request(inputs=[])),
        ("INVALID_ARGUMENT", request(inputs=[tensor("a"), tensor("b")])),
        ("INVALID_ARGUMENT", request(inputs=[tensor("a", name="prompt")])),
        ("INVALID_ARGUMENT", request(inputs=[tensor("a", datatype="FP32")])),
        ("INVALID_ARGUMENT", request(inputs=[tensor("a", shape=[2])])),
        ("INVALID_ARGUMENT", request(inputs=[tensor("a", "b", shape=[-2, -1])])),
        ("INVALID_ARGUMENT", request(b"\xff")),
        ("INVALID_ARGUMENT", request("hello", "  ")),
        ("INVALID_ARGUMENT", request(*["a"] * 101)),
        ("INVALID_ARGUMENT", request("a", outputs=[{"name": "logits"}])),
        ("INVALID_ARGUMENT", request("a", parameters={"threshold": parameter(string_param="0.5")})),
        ("INVALID_ARGUMENT", request("a", parameters={"threshold": parameter(double_param=2.0)})),
        ("INVALID_ARGUMENT", request("a", raw_input_contents=[b"\x05\x00\x00\x00abc"])),
        ("INVALID_ARGUMENT", request("a", raw_input_contents=[b"\x01\x00"])),
        ("INVALID_ARGUMENT", request("a", raw_input_contents=[b"", b""])),
        ("INVALID_ARGUMENT", request("a", parameters={"polciy": parameter(string_param="max_worse=0.05")})),
        ("INVALID_ARGUMENT", request("a", parameters={"Policy": parameter(string_param="max_worse=0.05")})),
        ("INVALID_ARGUMENT", request(parameters={"treshold": parameter(double_param=0.5)}, inputs=[tensor()])),
        ("NOT_FOUND", request("a", model_name="other")),
        ("NOT_FOUND", request("a", model_version="2")),
        ("NOT_FOUND", request("a", parameters={"policy": parameter(string_param="other")})),
        ("INTERNAL", request("hello", "7")),
    ],
    ids=range(23),
)
def test_wrong_requests_have_the_codes_of_route(http_process: HttpProcess, code: str, asked: Any):
    with pytest.raises(grpc.RpcError) as refused:
        infer(http_process.grpc, asked)
    assert refused.value.code().name == code


def test_parameters_that_clients_of_the_protocol_send_unasked_change_nothing(http_process: HttpProcess):
    unasked = {"priority": parameter(int64_param=1), "sequence_id": parameter(int64_param=0)}
    plain = infer(http_process.grpc, request("hello"))
    assert p_matches(infer(http_process.grpc, request("hello", parameters=unasked))) == p_matches(plain)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.booleans())
def test_elements_come_through_raw_and_plain(texts: list[str], is_raw: bool):
    readable = [text.encode("utf-8", "replace") for text in texts]
    raw = b"".join(struct.pack("<I", len(element)) + element for element in readable)
    contents = {"contents": None} if is_raw else {}
    asked = request(inputs=[tensor(*readable, **contents)], raw_input_contents=[raw] if is_raw else [])
    inference = read_inference(asked.SerializeToString(), ServerSettings())
    assert [pb.RouteRequest.FromString(item).text.encode() for item in inference.items] == readable
    assert inference.is_raw == is_raw


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes):
    try:
        inference = read_inference(raw, ServerSettings())
    except InvalidRequest:
        return
    assert len(inference.items) == math.prod(inference.shape)


def test_each_element_takes_a_place_in_the_queue(bundle: Bundle):
    model = GatedModel(bundle.model)
    blocked = dataclasses.replace(bundle, model=model)

    async def check() -> None:
        async with (
            server_in_loop(blocked, max_queue_items=3) as (server, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            method = channel.unary_unary(f"/{SERVICE_NAME}/ModelInfer")
            first = asyncio.ensure_future(method(request(BLOCKER, "hello").SerializeToString(), timeout=60))
            await until(lambda: server.service.answering.admission.items == 2)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await method(request("a", "b").SerializeToString(), timeout=60)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert int(dict(refused.value.trailing_metadata())[PUSHBACK_KEY]) >= 1
            model.gate.set()
            assert len(p_matches(v2.ModelInferResponse.FromString(await first))) == 2
            await until(lambda: server.service.answering.admission.items == 0)

    asyncio.run(check())


def test_a_ladder_gives_effort_and_rung_beside_the_model(ladder_bundle_folder: Path):
    ladder = load_bundle(ladder_bundle_folder)
    texts = ["hello", "word " * 20, "word " * 400]

    async def check() -> tuple[Any, Any, Any, list[Any]]:
        async with server_in_loop(ladder) as (_, address):
            whole, raw, metadata = await asyncio.to_thread(asked, address)
            return whole, raw, metadata, [await asyncio.to_thread(route, address, text=text) for text in texts]

    def asked(address: str) -> tuple[Any, Any, Any]:
        named = request(*texts, model_name="ladder")
        lengths = b"".join(struct.pack("<I", len(text)) + text.encode() for text in texts)
        raw_input = v2.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)])
        outputs = [v2.ModelInferRequest.InferRequestedOutputTensor(name="effort")]
        raw = request(model_name="ladder", inputs=[raw_input], raw_input_contents=[lengths], outputs=outputs)
        with grpc.insecure_channel(address) as channel:
            said = channel.unary_unary(f"/{SERVICE_NAME}/ModelMetadata")(
                v2.ModelMetadataRequest(name="ladder").SerializeToString(), timeout=60
            )
        return infer(address, named), infer(address, raw), v2.ModelMetadataResponse.FromString(said)

    whole, raw, metadata, decisions = asyncio.run(check())
    found = {one.name: list(one.contents.bytes_contents) for one in whole.outputs if one.datatype == "BYTES"}
    assert found == {name: [getattr(one, name).encode() for one in decisions] for name in ("model", "effort", "rung")}
    assert found["effort"] == [b"", b"", b"high"]
    assert found["rung"] == [b"gpt-4o-mini", b"gpt-4o", b"o3:high"]
    assert raw.raw_output_contents == [b"\0\0\0\0" * 2 + b"\4\0\0\0high"]
    assert [one.name for one in metadata.outputs] == ["p_match", "model", "effort", "rung"]


def test_a_pair_gives_its_two_outputs_and_an_effort_on_request_alone(bundle: Bundle):
    async def check() -> tuple[Any, Any]:
        async with server_in_loop(bundle) as (_, address):
            outputs = [v2.ModelInferRequest.InferRequestedOutputTensor(name="effort")]
            plain = await asyncio.to_thread(infer, address, request("hello"))
            return plain, await asyncio.to_thread(infer, address, request("hello", outputs=outputs))

    plain, effort = asyncio.run(check())
    assert [one.name for one in plain.outputs] == ["p_match", "model"]
    assert [list(one.contents.bytes_contents) for one in effort.outputs] == [[b""]]
