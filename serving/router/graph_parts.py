"""Graph parts: what stands inside a router graph, each as a graph of its own.

Comes in: the bytes of `router.onnx`, the whole cascade with the encoder inside an `If`. Goes out: the encoder alone,
for prompts that the fast head has answered; the fast head alone, which answers without waiting for an encoder's turn;
constants by their names.

The graph is taken apart by a descriptor of ONNX's wire format with the few fields that this needs; all others pass
through unread, weights as bytes. So serving needs no package that writes graphs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

TOKEN_IDS, DENSE, LIKE_DENSE = "token_ids", "dense", "counts"
"""Input and output of the encoder; `counts` is an input of the router graph of the type that `dense` has."""

_Field = descriptor_pb2.FieldDescriptorProto
_STRING, _BYTES, _MESSAGE = _Field.TYPE_STRING, _Field.TYPE_BYTES, _Field.TYPE_MESSAGE
_INT64, _INT32 = _Field.TYPE_INT64, _Field.TYPE_INT32
_DTYPES = {1: np.float32, 2: np.uint8, 7: np.int64, 10: np.float16, 11: np.float64}
"""Of `TensorProto.DataType`, those that a head is made of."""

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
    "Tensor": (
        ("dims", 1, _INT64, True, ""),
        ("data_type", 2, _INT32, False, ""),
        ("name", 8, _STRING, False, ""),
        ("raw_data", 9, _BYTES, False, ""),
    ),
}
"""Name, number, type, whether repeated, and message of the fields of onnx.proto that are read."""


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


def fast_graph(graph: bytes) -> bytes | None:
    """Return the router graph without its full stage; None where it has none inside an `If`.

    It gives the same outputs, but `p_match` is always the fast head's: where `is_full` is true, the whole graph has to
    be asked. Its weights are a tenth of the whole.
    """
    try:
        model = _Model.FromString(graph)
    except DecodeError:
        return None
    stages = next((node for node in model.graph.node if _is_cascade(node)), None)
    if stages is None:
        return None
    branches = {one.name: one.g for one in stages.attribute}
    branches["then_branch"].CopyFrom(branches["else_branch"])
    return bytes(model.SerializeToString())


def weights_of(graph: bytes) -> dict[str, NDArray[Any]]:
    """Return the weights outside the stages of a router graph by name, or all of another; copies nothing.

    Those of other types than heads are made of are left out.

    Raises:
        ValueError: a weight is not as long as its shape says.
    """
    try:
        tensors = [_Tensor.FromString(raw) for raw in _Model.FromString(graph).graph.initializer]
    except DecodeError:
        return {}
    return {
        one.name: np.frombuffer(one.raw_data, _DTYPES[one.data_type]).reshape(tuple(one.dims))
        for one in tensors
        if one.data_type in _DTYPES
    }


def _is_cascade(node: Any) -> bool:
    branches = {one.name: one.g for one in node.attribute if one.HasField("g")}
    return node.op_type == "If" and branches.keys() >= {"then_branch", "else_branch"}


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
_Model, _Graph, _Value, _Tensor = (_CLASSES[name] for name in ("Model", "Graph", "Value", "Tensor"))
