"""Reopen: the second look of a published bundle, read back from its graph.

Comes in: the bytes of `checker.onnx`. Goes out: its `Checker` and `SignalHead`, whose log-odds are those of the fit it
was exported from. The names are those that `training.check.export` gives the initializers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from turnout.training.check.fit import Checker, CheckerSettings, ShapeScaler, SignalGate
from turnout.training.check.signal_head import SignalHead
from turnout.training.errors import DataRefused
from turnout.training.fit.calibrators import Beta

AS_EXPORTED = CheckerSettings(
    first_scale=1.0,
    lexical_scale=1.0,
    structure_scale=1.0,
    shape_structure_scale=1.0,
    shape_scale=1.0,
    signal_scale=1.0,
)
"""The exported weights hold the scales already."""


def reopen_checker(graph: bytes) -> tuple[Checker, SignalHead]:
    """Return both heads of a graph; log-odds agree with those of the exported ones to 1e-5.

    Raises:
        DataRefused: the graph lacks one of the constants, so this Turnout did not write it.
    """
    tensors = onnx.load_model_from_string(graph).graph.initializer
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    try:
        gate = SignalGate(found["usable"].astype(bool))
        return _checker(found, gate), SignalHead(
            float(found["head_base"]), float(found["head_slope"]), _float64(found["head_offsets"]), gate
        )
    except KeyError as error:
        raise DataRefused(
            f"checker.onnx: no constant {error}; this Turnout can't recalibrate that graph, train again"
        ) from error


def _checker(found: dict[str, NDArray[Any]], gate: SignalGate) -> Checker:
    small = [found["first_weight"], found["whole"], found["shapes"], found["signal_weight"], found["kinds"]]
    maps = zip(found["match_slopes"], found["miss_slopes"], found["starts"], strict=True)
    return Checker(
        AS_EXPORTED,
        _float64(found["idf"]),
        ShapeScaler(
            np.vstack((_float64(found["means"]), _float64(found["mean"]))),
            np.vstack((_float64(found["factors"]), _float64(found["factor"]))),
        ),
        gate,
        _float64(found["lexical"]),
        _float64(found["own"]),
        np.concatenate([_float64(np.atleast_1d(one)) for one in small]),
        float(found["intercept"]),
        tuple(Beta(float(match), float(miss), float(start)) for match, miss, start in maps),
    )


def _float64(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
