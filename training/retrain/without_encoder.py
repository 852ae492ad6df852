"""Without encoder: a router graph that takes the dense vector as an input, to ask it about rows that have no text.

Comes in: the bytes of `router.onnx` and features. Goes out: what the graph answers as it is served, exit band and all.
The encoder's nodes are taken out of the branch that they stand in; the vector was made by the same ones when the row
was logged, so the answer is the one that the prompt would get.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from turnout.serving.errors import ModelFault
from turnout.serving.router.graph_parts import DENSE, TOKEN_IDS
from turnout.serving.router.model import OUT_OF_DISTRIBUTION, OUTPUTS, session_options
from turnout.serving.router.unseen import places_of
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.errors import DataRefused
from turnout.training.retrain.gate import ServedAnswers


class VectorModel:
    """A router graph without its encoder."""

    def __init__(self, graph: bytes, unseen: Iterable[str] = ()) -> None:
        """Take the encoder out and build the session.

        Args:
            graph: the bytes of `router.onnx`.
            unseen: what its training never had, of `turnout.serving.router.unseen`.

        Raises:
            DataRefused: the graph holds no encoder.
        """
        self._unseen = list(places_of(unseen))
        model = onnx.load_from_string(graph)
        _cut(model.graph)
        self._session = ort.InferenceSession(
            model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in self._session.get_outputs()]
        self._outputs = [name for name in (*OUTPUTS, OUT_OF_DISTRIBUTION) if name in names]

    def answers(self, table: FeatureTable, threshold: float) -> ServedAnswers:
        """Return what the router says of n rows at a threshold, one at a time, as served.

        Raises:
            ModelFault: it gave no usable number.
        """
        n_rows, counts = table.dense.shape[0], table.counts
        p_match, is_out = np.empty(n_rows), np.zeros(n_rows, dtype=bool)
        for row in range(n_rows):
            of_row = slice(counts.indptr[row], counts.indptr[row + 1])
            said = self._session.run(
                self._outputs,
                {
                    DENSE: table.dense[row],
                    "buckets": counts.indices[of_row].astype(np.int64),
                    "counts": counts.data[of_row],
                    "structural": table.structural[row],
                    "threshold": np.array(threshold, np.float64),
                    "early_exit": np.ones((), dtype=bool),
                },
            )
            p_match[row] = said[0]
            is_out[row] = any(map(bool, said[2:])) or np.any(table.structural[row, self._unseen])
        if not np.all((p_match >= 0.0) & (p_match <= 1.0)):  # False for NaN too
            raise ModelFault("the graph gave a p_match outside [0, 1]")
        return ServedAnswers(p_match, (p_match >= threshold) & ~is_out)


def _cut(graph: onnx.GraphProto) -> None:
    """Take out what computes the dense vector, and make it an input."""
    branches = [one.g for node in graph.node if node.op_type == "If" for one in node.attribute]
    branch = next((one for one in branches if any(DENSE in node.output for node in one.node)), None)
    if branch is None:
        raise DataRefused("the graph holds no encoder; this Turnout did not write it, train again")
    made_by = {name: node for node in branch.node for name in node.output}
    wanted, kept = [output.name for output in branch.output], set[str]()
    while wanted:
        name = wanted.pop()
        if name != DENSE and name in made_by and name not in kept:
            kept.update(made_by[name].output)
            wanted.extend(made_by[name].input)
    nodes = [node for node in branch.node if kept.intersection(node.output)]
    used = {name for node in nodes for name in node.input}
    initializers = [one for one in branch.initializer if one.name in used]
    del branch.node[:], branch.initializer[:]
    branch.node.extend(nodes)
    branch.initializer.extend(initializers)
    inputs = [one for one in graph.input if one.name != TOKEN_IDS]
    del graph.input[:]
    graph.input.extend([helper.make_tensor_value_info(DENSE, TensorProto.FLOAT, ["dim"]), *inputs])
