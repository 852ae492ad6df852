"""The open inference protocol (KServe V2) on the gRPC port: `inference.GRPCInferenceService`.

    ModelInfer: BYTES `text` of n elements -> n requests through the queue -> FP32 `p_match`, BYTES `model`, `effort`

One tensor has no room for n different failures: the first one is the call's, with the codes of Route. Each
element is one item of the queue and runs alone, so that its answer is that of Route.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import msgspec
from google.protobuf.message import DecodeError

from turnout.serving.bundles.manifest import Manifest
from turnout.serving.errors import InvalidRequest, UnknownName
from turnout.serving.observe.calls import CODES
from turnout.serving.observe.metrics import installed
from turnout.serving.pb import open_inference_pb2 as v2
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.service.service import RouterService, deadline_of
from turnout.serving.service.status import Failure
from turnout.serving.settings import ServerSettings

SERVICE_NAME = "inference.GRPCInferenceService"
SERVER_NAME = "turnout"
PLATFORM = "turnout_onnx"
TEXT, P_MATCH, MODEL, EFFORT, RUNG = "text", "p_match", "model", "effort", "rung"
OUTPUTS = {P_MATCH: "FP32", MODEL: "BYTES"}
"""Of every bundle, and what is given where a request names none."""
OF_LADDERS = {EFFORT: "BYTES", RUNG: "BYTES"}
"""Beside them of a ladder; of a pair on request, the effort is empty where its models have none."""
PARAMETERS = {"policy": "string_param", "threshold": "double_param", "tenant": "string_param"}
"""Of a request, and the kind of each."""
OTHERS_PARAMETERS = frozenset(
    {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output", "headers"}
)
"""That clients of the protocol send to any server unasked: Triton's own; they change nothing here."""
LENGTH = struct.Struct("<I")
"""Before each element of a raw BYTES tensor."""


@dataclass(frozen=True, slots=True)
class Inference:
    """A `ModelInferRequest`, checked.

    Attributes:
        request: the message.
        items: bytes of a `RouteRequest` for each element.
        shape: of the input, and so of the outputs.
        outputs: names wanted, in their order.
        is_raw: whether contents come, and are to go, as raw bytes.
    """

    request: Any
    items: list[bytes]
    shape: list[int]
    outputs: list[str]
    is_raw: bool


class OpenInference:
    """The RPCs of the protocol over the handlers of RouterService."""

    def __init__(self, service: RouterService, settings: ServerSettings) -> None:
        """Take what decides, and the limits: those of RouteBatch."""
        self._service = service
        self._settings = settings

    def handlers(self) -> Any:
        """Return the generic gRPC handler; its methods get bytes, as those of RouterService do."""
        behaviours = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                self._service.watched(name, behaviour), response_serializer=lambda reply: reply.SerializeToString()
            )
            for name, behaviour in behaviours.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    async def _server_live(self, _raw: bytes, _context: Any) -> Any:
        return v2.ServerLiveResponse(live=True)

    async def _server_ready(self, _raw: bytes, _context: Any) -> Any:
        return v2.ServerReadyResponse(ready=self._service.is_ready)

    async def _server_metadata(self, _raw: bytes, _context: Any) -> Any:
        return v2.ServerMetadataResponse(name=SERVER_NAME, version=installed(SERVER_NAME))

    async def _model_ready(self, raw: bytes, context: Any) -> Any:
        return await self._service.or_status(self._readiness(raw), context)

    async def _model_metadata(self, raw: bytes, context: Any) -> Any:
        return await self._service.or_status(self._metadata(raw), context)

    async def _model_infer(self, raw: bytes, context: Any) -> Any:
        inference, results = await self._service.or_status(self._results(raw, deadline_of(context)), context)
        failed = next((one.failure for one in results if one.HasField("failure")), None)
        if failed is not None:  # counted already, as an item of its own
            pushback_ms = failed.retry_pushback_ms if failed.HasField("retry_pushback_ms") else None
            failure = Failure(CODES[failed.code], failed.message, pushback_ms)
            await context.abort(failure.code, failure.message, failure.trailers(context.invocation_metadata() or ()))
        return _response(inference, [one.response for one in results])

    async def _readiness(self, raw: bytes) -> Any:
        request = _read(v2.ModelReadyRequest, raw)
        try:
            self._find(request.name, request.version)
        except UnknownName:
            return v2.ModelReadyResponse(ready=False)
        return v2.ModelReadyResponse(ready=self._service.is_ready)

    async def _metadata(self, raw: bytes) -> Any:
        request = _read(v2.ModelMetadataRequest, raw)
        manifest = self._find(request.name, request.version).manifest
        tensor = v2.ModelMetadataResponse.TensorMetadata
        return v2.ModelMetadataResponse(
            name=manifest.name,
            versions=[manifest.version],
            platform=PLATFORM,
            inputs=[tensor(name=TEXT, datatype="BYTES", shape=[-1])],
            outputs=[
                tensor(name=name, datatype=datatype, shape=[-1])
                for name, datatype in (OUTPUTS | (OF_LADDERS if _is_ladder(manifest) else {})).items()
            ],
        )

    async def _results(self, raw: bytes, deadline_s: float | None) -> tuple[Inference, list[Any]]:
        self._service.check_warm()
        inference = read_inference(raw, self._settings)
        if not inference.request.outputs and self._gives_rungs(inference.request):
            inference = dataclasses.replace(inference, outputs=[*OUTPUTS, *OF_LADDERS])
        return inference, await self._service.answering.results(inference.items, deadline_s)

    def _gives_rungs(self, request: Any) -> bool:
        """Whether the bundle that a request names has a ladder; one that is not served is told of by its items."""
        try:
            return _is_ladder(self._find(request.model_name, request.model_version).manifest)
        except UnknownName:
            return False

    def _find(self, name: str, version: str) -> Any:
        return self._service.answering.lifecycle.lineup.find(_bundle(name, version))


def read_inference(raw: bytes, settings: ServerSettings) -> Inference:
    """Check and decode the bytes of a `ModelInferRequest`.

    Raises:
        InvalidRequest: undecodable, over the limits of a batch, or not one BYTES tensor `text` of UTF-8.
    """
    if len(raw) > settings.max_batch_bytes:
        raise InvalidRequest(f"the request has {len(raw)} bytes, at most {settings.max_batch_bytes} are allowed")
    request = _read(v2.ModelInferRequest, raw)
    if [(tensor.name, tensor.datatype) for tensor in request.inputs] != [(TEXT, "BYTES")]:
        raise InvalidRequest(f"inputs: expected one tensor, {TEXT} of datatype BYTES")
    (tensor,) = request.inputs
    is_raw = bool(request.raw_input_contents)
    texts = _raw_elements(request.raw_input_contents) if is_raw else list(tensor.contents.bytes_contents)
    shape = list(tensor.shape)
    if min(shape, default=0) < 0 or math.prod(shape) != len(texts):
        raise InvalidRequest(f"inputs: {TEXT} has {len(texts)} elements, which is not what its shape says")
    if len(texts) > settings.max_batch_items:
        raise InvalidRequest(f"{TEXT} has {len(texts)} elements, at most {settings.max_batch_items} are allowed")
    n_unknown = len(request.parameters.keys() - PARAMETERS.keys() - OTHERS_PARAMETERS)
    if n_unknown:
        raise InvalidRequest(f"parameters: {n_unknown} are unknown; known are {', '.join(PARAMETERS)}")
    outputs = [wanted.name for wanted in request.outputs] or list(OUTPUTS)
    known = OUTPUTS | OF_LADDERS
    if not known.keys() >= set(outputs):
        raise InvalidRequest(f"outputs: expected any of {', '.join(known)}")
    return Inference(request, [_item(request, text) for text in texts], shape, outputs, is_raw)


def _item(request: Any, text: bytes) -> bytes:
    try:
        item = pb.RouteRequest(request_id=request.id, text=text.decode())
    except UnicodeDecodeError:
        raise InvalidRequest(f"{TEXT}: an element is not UTF-8") from None
    item.bundle = _bundle(request.model_name, request.model_version)
    for name, kind in PARAMETERS.items():
        if name not in request.parameters:
            continue
        if request.parameters[name].WhichOneof("parameter_choice") != kind:
            raise InvalidRequest(f"parameters: expected {name} as {kind}")
        setattr(item, name, getattr(request.parameters[name], kind))
    return bytes(item.SerializeToString())


def _raw_elements(contents: Sequence[bytes]) -> list[bytes]:
    if len(contents) != 1:
        raise InvalidRequest("raw_input_contents: expected one, as there is one input")
    raw, elements, at = contents[0], [], 0
    while at < len(raw):
        start = at + LENGTH.size
        end = start + (LENGTH.unpack_from(raw, at)[0] if start <= len(raw) else len(raw))
        if end > len(raw):
            raise InvalidRequest("raw_input_contents: an element is longer than what is left")
        elements.append(raw[start:end])
        at = end
    return elements


def _response(inference: Inference, responses: Sequence[Any]) -> Any:
    request = inference.request
    name, _, version = (responses[0].bundle if responses else "").rpartition("/")
    reply = v2.ModelInferResponse(
        model_name=name or request.model_name, model_version=version or request.model_version, id=request.id
    )
    # Nothing but NaN says in a tensor that there is no number: the model did not run.
    p_match = [one.p_match if one.HasField("p_match") else math.nan for one in responses]
    texts = {name: [getattr(one, name).encode() for one in responses] for name in (MODEL, *OF_LADDERS)}
    for wanted in inference.outputs:
        output = reply.outputs.add(name=wanted, datatype=(OUTPUTS | OF_LADDERS)[wanted], shape=inference.shape)
        if inference.is_raw and wanted == P_MATCH:
            reply.raw_output_contents.append(struct.pack(f"<{len(p_match)}f", *p_match))
        elif inference.is_raw:
            reply.raw_output_contents.append(b"".join(LENGTH.pack(len(text)) + text for text in texts[wanted]))
        elif wanted == P_MATCH:
            output.contents.fp32_contents.extend(p_match)
        else:
            output.contents.bytes_contents.extend(texts[wanted])
    return reply


def _is_ladder(manifest: Manifest) -> bool:
    return manifest.rungs is not msgspec.UNSET


def _bundle(name: str, version: str) -> str:
    return f"{name}/{version}" if name and version else name


def _read(message: Any, raw: bytes) -> Any:
    try:
        return message.FromString(raw)
    except DecodeError:  # its text may quote the bytes
        raise InvalidRequest(f"the request is not an inference.{message.DESCRIPTOR.name}: undecodable") from None
