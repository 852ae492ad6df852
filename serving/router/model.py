"""The router graph as a session: `Prompt` in, `Prediction` out.

The graph holds the whole cascade: a fast head over the lexical and structural parts, and, inside an
`If`, the encoder with the full head. `p_match` comes out of the fast head when it lies outside the
exit band around the threshold, and of the full head otherwise. Beside it the graph says whether the prompt is
unlike what it was trained on; one without that output (bundle format 1) never says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from turnout.serving.errors import ModelFault
from turnout.serving.router.features import Features, Featurizer
from turnout.serving.router.native.native_head import NativeHead
from turnout.serving.router.prompt import Prompt
from turnout.serving.router.unseen import places_of

OUTPUTS = ("p_match", "is_full")
OUT_OF_DISTRIBUTION = "is_out_of_distribution"
"""The output that graphs of bundle format 1 lack."""
NOT_ASKED_FOR, NATIVE = "not asked for", "native"


class Stage(StrEnum):
    """Which part of the model answered."""

    FAST = "FAST"
    FULL = "FULL"


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """What the model says of one prompt.

    Attributes:
        p_match: calibrated probability in [1e-6, 1 - 1e-6] that the weak model does as well.
        stage: the head that gave it.
        is_out_of_distribution: whether the prompt is unlike the training data, so that no calibration vouches
            for `p_match`; False from graphs that do not look.
        p_rungs: of a ladder, the same probability of each rung between, as `rungs.RungHeads` says; empty for a pair.
    """

    p_match: float
    stage: Stage
    is_out_of_distribution: bool = False
    p_rungs: tuple[float, ...] = ()

    def goes_weak(self, threshold: float, *, falls_back: bool = True) -> bool:
        """Whether the request goes to the weak model.

        Args:
            threshold: the policy's, in [0, 1].
            falls_back: whether what is out of distribution goes strong whatever its `p_match`.
        """
        return self.p_match >= threshold and not (falls_back and self.is_out_of_distribution)


class RouterModel:
    """A router graph with its tokenizer, ready to predict. Thread-safe; one ONNX thread a call."""

    def __init__(
        self,
        graph: bytes,
        tokenizer_json: bytes,
        max_tokens: int,
        harness_rules: int = 0,
        unseen: Iterable[str] = (),
    ) -> None:
        """Read graph and tokenizer.

        Args:
            graph: the bytes of `router.onnx`.
            tokenizer_json: the bytes of `tokenizer.json`.
            max_tokens: most word pieces the encoder reads, [CLS] and [SEP] included.
            harness_rules: version of the rules by which harness text is left out (`turnout.serving.router.harness`).
            unseen: what the training never had, of `serving.router.unseen`; prompts with it are out of distribution.
        """
        self.featurize = Featurizer(tokenizer_json, max_tokens, harness_rules)
        self._session = RouterSession(graph, unseen)

    def predict(self, prompt: Prompt, threshold: float, *, early_exit: bool = True) -> Prediction:
        """Return `p_match` of one prompt; always a batch of one.

        Args:
            prompt: any prompt, the empty one too.
            threshold: the policy's threshold in [0, 1]; it places the exit band.
            early_exit: False runs the encoder for every prompt.

        Raises:
            ModelFault: the graph gave NaN or a number outside [0, 1].
        """
        return self.predict_features(self.featurize(prompt), threshold, early_exit=early_exit)

    def predict_features(self, features: Features, threshold: float, *, early_exit: bool = True) -> Prediction:
        """Return `p_match` for features already extracted; otherwise as `predict`."""
        return self._session.run(features, threshold, early_exit=early_exit)

    def predict_between(
        self, features: Features, threshold: float, also: float | None, *, early_exit: bool = True
    ) -> Prediction:
        """Return `p_match` where the fast head may answer only if it is sure at both thresholds; None for one alone.

        Asking the fast head twice takes a tenth of a millisecond.
        """
        prediction = self.predict_features(features, threshold, early_exit=early_exit)
        if also is None or prediction.stage is not Stage.FAST:
            return prediction
        return self.predict_features(features, also, early_exit=early_exit)


class Looked(msgspec.Struct, frozen=True, gc=False):
    """What the first stage made of a prompt.

    Attributes:
        prediction: its answer; None where it leaves the answer open.
        measures: (16,) float32, as `Features.structural`.
        features: of the prompt: where they were wanted, where the answer is left open, and wherever they came anyway.
        p_rungs: of a ladder, p of each rung between; empty for a pair, and where their graph has to say it.
    """

    prediction: Prediction | None
    measures: NDArray[np.float32]
    features: Features | None
    p_rungs: tuple[float, ...] = ()


class FastHead:
    """The first stage of a router graph by itself: it never runs the encoder. Thread-safe; one ONNX thread a call.

    Attributes:
        native: the same stage in C, which is asked first; None where the graph alone answers.
        path: "native", or why not.
    """

    def __init__(self, graph: bytes, unseen: Iterable[str] = ()) -> None:
        """Build the session from the bytes that `graph_parts.fast_graph` gave; `unseen` as `RouterModel` takes it."""
        self._session = RouterSession(graph, unseen)
        self.native: NativeHead | None = None
        self.path = NOT_ASKED_FOR

    def use(self, native: NativeHead | None, path: str = NATIVE) -> None:
        """Answer by the head in C from now on, or say why not; who calls has held it against this graph."""
        self.native, self.path = native, path

    def look(self, prompt: Prompt, threshold: float, also: float | None, *, wants_features: bool) -> Looked | None:
        """Return what the first stage makes of a prompt, by the head in C; None where that is not there or hands over.

        Args:
            prompt: any prompt, the empty one too.
            threshold: in [0, 1]; it places the exit band.
            also: a second threshold near which the first stage may not answer; None for none.
            wants_features: whether they are needed where it answers, too.

        Raises:
            ModelFault: as `RouterModel.predict`.
        """
        if self.native is None:
            return None
        found = self.native.look(prompt, threshold, also, wants_features=wants_features)
        if found is None:
            return None
        p_match = _checked(found.p_match)
        is_unlike = found.is_unlike or self.is_unseen(found.measures)
        p_rungs = found.p_rungs
        if p_rungs:
            check_rungs(p_rungs)
        prediction = None if found.is_open else Prediction(p_match, Stage.FAST, is_unlike, p_rungs)
        return Looked(prediction, found.measures, found.features, p_rungs)

    def look_by_graph(self, features: Features, threshold: float, also: float | None) -> Looked:
        """Return the same of features already extracted, by the graph; otherwise as `look`."""
        prediction = self.predict_features(features, threshold)
        if prediction is not None and also is not None:
            prediction = self.predict_features(features, also)
        return Looked(prediction, features.structural, features)

    def predict_features(self, features: Features, threshold: float) -> Prediction | None:
        """Return what `RouterModel` does where the first stage answers; None where it leaves the answer open.

        Raises:
            ModelFault: as there.
        """
        prediction = self.first_stage(features, threshold)
        return None if prediction.stage is Stage.FULL else prediction

    def first_stage(self, features: Features, threshold: float) -> Prediction:
        """Return the fast head's `p_match` in any case; the stage FULL says that the answer is left open."""
        return self._session.run(features, threshold, early_exit=True)

    def is_unseen(self, measures: NDArray[np.float32]) -> bool:
        """Whether structural measures tell of what the training never had."""
        return self._session.is_unseen(measures)


class RouterSession:
    """A router graph, or its first stage, as an ONNX session."""

    def __init__(self, graph: bytes, unseen: Iterable[str]) -> None:
        """Build the session from bytes, which also refuses every external data file; `unseen` as in `RouterModel`."""
        self._unseen = places_of(unseen)
        self._session = ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])
        looks = OUT_OF_DISTRIBUTION in (output.name for output in self._session.get_outputs())
        self._outputs = (*OUTPUTS, OUT_OF_DISTRIBUTION) if looks else OUTPUTS

    def run(self, features: Features, threshold: float, *, early_exit: bool) -> Prediction:
        """Return what the graph says; raises `ModelFault` where that is no number in [0, 1]."""
        p_match, is_full, *is_out_of_distribution = self._session.run(
            self._outputs,
            {
                "token_ids": features.token_ids,
                "buckets": features.buckets,
                "counts": features.counts,
                "structural": features.structural,
                "threshold": np.array(threshold, np.float64),
                "early_exit": np.array(early_exit),
            },
        )
        value = _checked(float(p_match))
        stage = Stage.FULL if is_full else Stage.FAST
        is_unlike = any(map(bool, is_out_of_distribution)) or self.is_unseen(features.structural)
        return Prediction(value, stage, is_unlike)

    def is_unseen(self, measures: NDArray[np.float32]) -> bool:
        """Whether structural measures tell of what the training never had."""
        return any(map(measures.item, self._unseen))


def check_rungs(p_rungs: Iterable[float]) -> None:
    """Raise `ModelFault` where a p of the rungs between is NaN or outside [0, 1]."""
    for p in p_rungs:
        if not 0.0 <= p <= 1.0:  # False for NaN too
            raise ModelFault(f"a rung has p = {p}, expected a number in [0, 1]")


def _checked(p_match: float) -> float:
    if not 0.0 <= p_match <= 1.0:  # False for NaN too, which would else choose a route in silence
        raise ModelFault(f"the graph gave p_match = {p_match}, expected a number in [0, 1]")
    return p_match


def session_options() -> ort.SessionOptions:
    """Return the options of every session, in training and in serving.

    One thread, no spinning: spinning cost three times the CPU at 20 requests/s and gained nothing.
    Basic optimisation only: ONNX Runtime fuses attention in a graph that stands alone but not inside an
    `If`; the fused encoder differs by up to 0.03 a component (p_match by 1e-3). This costs 6 to 8 % of the
    encoder's time (docs/decisions/serving/0001).
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    return options
