"""The messages that carry many requests or their results: `RouteBatch` and `RouteStream` on the server's side.

Both are read by a descriptor of the same wire format with `bytes` where the published one has
`RouteRequest`: each item stays undecoded, so that one with invalid bytes can fail alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.service.status import Failure


def _items_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    items = field(name="items", number=1, type=field.TYPE_BYTES, label=field.LABEL_REPEATED)
    message = descriptor_pb2.DescriptorProto(name="Items", field=[items])
    file = descriptor_pb2.FileDescriptorProto(name="items.proto", syntax="proto3", message_type=[message])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Items"))


_Items = _items_class()


def read_batch(raw: bytes, max_bytes: int, max_items: int, name: str = "RouteBatchRequest") -> list[bytes]:
    """Return the undecoded items of a `RouteBatchRequest`, or of the message of that name and shape.

    Raises:
        InvalidRequest: more than `max_bytes` or `max_items`, or the bytes around the items are undecodable.
    """
    if len(raw) > max_bytes:
        raise InvalidRequest(f"the batch has {len(raw)} bytes, at most {max_bytes} are allowed")
    items = _read_items(raw, name)
    if len(items) > max_items:
        raise InvalidRequest(f"the batch has {len(items)} items, at most {max_items} are allowed")
    return items


def read_stream_item(raw: bytes) -> bytes:
    """Return the undecoded request of a `RouteStreamRequest`, empty when it has none.

    Raises:
        InvalidRequest: the bytes around the request are undecodable.
    """
    # A field that comes twice is merged, and merging messages is joining their bytes.
    return b"".join(_read_items(raw, "RouteStreamRequest"))


def request_id_of(raw: bytes, max_bytes: int) -> str:
    """Return the id of a request that failed; empty when its bytes are too many or undecodable."""
    if len(raw) > max_bytes:
        return ""
    try:
        return str(pb.RouteRequest.FromString(raw).request_id)
    except DecodeError:
        return ""


def result(response: Any) -> Any:
    """Return the `RouteResult` of a decision."""
    found = pb.RouteResult()
    found.response.CopyFrom(response)
    return found


def failed_result(request_id: str, failure: Failure) -> Any:
    """Return the `RouteResult` of a request that got no decision."""
    return pb.RouteResult(
        failure=pb.RouteFailure(
            request_id=request_id,
            code=failure.code.value[0],
            message=failure.message,
            retry_pushback_ms=failure.pushback_ms,
        )
    )


def batch_response(results: Sequence[Any]) -> Any:
    """Return the `RouteBatchResponse` of the results."""
    return pb.RouteBatchResponse(results=results)


def stream_response(result: Any) -> Any:
    """Return the `RouteStreamResponse` of a result."""
    return pb.RouteStreamResponse(result=result)


def check_stream_response(result: Any) -> Any:
    """Return the `CheckStreamResponse` of a result."""
    return pb.CheckStreamResponse(result=result)


def _read_items(raw: bytes, name: str) -> list[bytes]:
    try:
        return list(_Items.FromString(raw).items)
    except DecodeError:  # its text may quote the bytes
        raise InvalidRequest(f"the request is not a turnout.v1.{name}: undecodable") from None
