"""The fast head in C joins the graph that it was read from, or the reason why it does not is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from turnout.serving.router.checker import Ngrams
from turnout.serving.router.features import Featurizer
from turnout.serving.router.graph_parts import weights_of
from turnout.serving.router.model import NATIVE, FastHead
from turnout.serving.router.native.agreement import check_agreement
from turnout.serving.router.native.native_head import NativeHead, NotNative
from turnout.serving.router.rungs import RungHeads


def open_native(
    head: FastHead,
    graph: bytes,
    featurize: Featurizer,
    golden: Sequence[str],
    rungs: RungHeads | None = None,
    rungs_graph: bytes = b"",
) -> None:
    """Let the head in C answer for a graph where both agree; `head.path` says why where it does not.

    The same for the rungs between, of a ladder: where only they differ, their graph says p, and the head in C the rest.

    Args:
        head: the first stage as a graph.
        graph: its bytes, from which the weights are read.
        featurize: the Python path to its inputs.
        golden: texts of the bundle's golden prompts.
        rungs: heads of the rungs between; None for a pair.
        rungs_graph: the bytes of their graph.
    """
    why_no_rungs = ""
    try:
        native = NativeHead(weights_of(graph), featurize)
        try:
            if rungs is not None:
                native.take_rungs(weights_of(rungs_graph))
        except NotNative as reason:
            why_no_rungs = str(reason)
        found = check_agreement(native, head, featurize, golden, None if why_no_rungs else rungs)
    except NotNative as reason:
        head.use(None, str(reason))
        found = str(reason)
    else:
        head.use(native)
    if rungs is None:
        return
    rungs.use(why_no_rungs or found or NATIVE)
    if head.native is not None and not rungs.is_native:
        head.native.drop_rungs()


def ngrams_of(featurize: Featurizer, head: FastHead | None) -> Ngrams:
    """Return what reads answers for the second look: in C where the first stage answers in C."""
    native = None if head is None else head.native
    if native is None:
        return featurize.ngrams

    def ngrams(text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return native.ngrams(text) or featurize.ngrams(text)

    return ngrams
