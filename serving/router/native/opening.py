"""The fast head in C joins the graph that it was read from, or the reason why it does not is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from turnout.serving.router.checker import Ngrams
from turnout.serving.router.features import Featurizer
from turnout.serving.router.graph_parts import weights_of
from turnout.serving.router.model import FastHead
from turnout.serving.router.native.agreement import check_agreement
from turnout.serving.router.native.native_head import NativeHead, NotNative


def open_native(head: FastHead, graph: bytes, featurize: Featurizer, golden: Sequence[str]) -> None:
    """Let the head in C answer for a graph where both agree; `head.path` says why where it does not.

    Args:
        head: the first stage as a graph.
        graph: its bytes, from which the weights are read.
        featurize: the Python path to its inputs.
        golden: texts of the bundle's golden prompts.
    """
    try:
        native = NativeHead(weights_of(graph), featurize)
        check_agreement(native, head, featurize, golden)
    except NotNative as reason:
        head.use(None, str(reason))
    else:
        head.use(native)


def ngrams_of(featurize: Featurizer, head: FastHead | None) -> Ngrams:
    """Return what reads answers for the second look: in C where the first stage answers in C."""
    native = None if head is None else head.native
    if native is None:
        return featurize.ngrams

    def ngrams(text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return native.ngrams(text) or featurize.ngrams(text)

    return ngrams
