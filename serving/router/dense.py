"""Dense: the encoder of a router graph by itself, for prompts that the fast head has answered.

Comes in: the bytes of `router.onnx`, whose encoder stands inside an `If` and whose outputs lack the dense vector.
Goes out: `DenseEncoder`: token ids to that vector, bit for bit the one that the graph computes and training fits on.

The graph is taken apart by a descriptor of ONNX's wire format with the few fields that this needs; all others pass
through unread, weights as bytes. So serving needs no package that writes graphs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnxruntime as ort
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from turnout.serving.router.model import session_options

TOKEN_IDS, DENSE, LIKE_DENSE = "token_ids", "dense", "counts"
"""Input and output of the encoder; `counts` is an input of the router graph of the type that `dense` has."""

_Field = descriptor_pb2.FieldDescriptorProto
_STRING, _BYTES, _MESSAGE = _Field.TYPE_STRING, _Field.TYPE_BYTES, _Field.TYPE_MESSAGE
_FIELDS: dict[str, tuple[tuple[str, int, _Field.Type.ValueType, bool, str], ...]] = {
    "Model": (("graph", 7, _MESSAGE, False, "Graph"),),
    "Graph": (
        ("node", 1, _MESSAGE, True, "Node"),
        ("initializer", 5, _BYTES, True, ""),
        ("input", 11, _MESSAGE, True, "Value"),
        ("output", 12, _MESSAGE, True, "Value"),
        ("value_info", 13, _BYTES, True, ""),
    ),
    "Node": (
        ("input", 1, _STRING, True, ""),
        ("output", 2, _STRING, True, ""),
        ("op_type", 4, _STRING, False, ""),
        ("attribute", 5, _MESSAGE, True, "Attribute"),
    ),
    "Attribute": (("name", 1, _STRING, False, ""), ("g", 6, _MESSAGE, False, "Graph")),
    "Value": (("name", 1, _STRING, False, ""), ("type", 2, _BYTES, False, "")),
}
"""Name, number, type, whether repeated, and message of the fields of onnx.proto that are read."""


class DenseEncoder:
    """An encoder, ready to run. Thread-safe; one ONNX thread a call."""

    def __init__(self, graph: bytes) -> None:
        """Build the session from the bytes that `encoder_graph` gave."""
        self._session = ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])

    def __call__(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the dense vector (dim,) float32 of (n,) token ids; always a batch of one."""
        (dense,) = self._session.run((DENSE,), {TOKEN_IDS: token_ids})
        return np.asarray(dense, dtype=np.float32)


def encoder_graph(graph: bytes) -> bytes | None:
    """Return the encoder inside a router graph as a graph of its own; None where there is none inside an `If`."""
    try:
        model = _Model.FromString(graph)
    except DecodeError:
        return None
    branch = next((one for one in _branches(model.graph) if DENSE in _outputs(one.node)), None)
    types = {one.name: one.type for one in model.graph.input}
    if branch is None or not {TOKEN_IDS, LIKE_DENSE} <= types.keys():
        return None
    kept = _Graph(
        node=_leading_to(DENSE, branch.node),
        initializer=branch.initializer,
        input=[_Value(name=TOKEN_IDS, type=types[TOKEN_IDS])],
        output=[_Value(name=DENSE, type=types[LIKE_DENSE])],
    )
    for name in _FIELDS["Graph"]:
        model.graph.ClearField(name[0])
    model.graph.MergeFrom(kept)
    return bytes(model.SerializeToString())


def _branches(graph: Any) -> Iterable[Any]:
    return (one.g for node in graph.node if node.op_type == "If" for one in node.attribute if one.HasField("g"))


def _outputs(nodes: Iterable[Any]) -> set[str]:
    return {name for node in nodes for name in node.output}


def _leading_to(output: str, nodes: Iterable[Any]) -> list[Any]:
    """Return the nodes that an output needs, in their order."""
    wanted, kept = {output}, []
    for node in reversed(list(nodes)):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="router_graph.proto", package="router_graph", syntax="proto3")
    for message, fields in _FIELDS.items():
        file.message_type.add(name=message).field.extend(
            _Field(
                name=name,
                number=number,
                type=kind,
                label=_Field.LABEL_REPEATED if is_repeated else _Field.LABEL_OPTIONAL,
                type_name=f".router_graph.{of}" if of else None,
            )
            for name, number, kind, is_repeated, of in fields
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"router_graph.{name}")) for name in _FIELDS
    }


_CLASSES = _messages()
_Model, _Graph, _Value = _CLASSES["Model"], _CLASSES["Graph"], _CLASSES["Value"]
