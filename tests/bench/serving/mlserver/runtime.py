"""The runtime that a user of MLServer writes for this graph: one text in, its p_match out, features made in here."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.router.prompt import prompt_from_text


class TurnoutRuntime(MLModel):
    """Loads the champion as the server does; threshold of its default policy, early exit on."""

    async def load(self) -> bool:
        bundle = load_bundle(find_bundle())
        self._model = bundle.model
        self._threshold = bundle.manifest.policy("").threshold
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (text,) = StringCodec.decode_input(payload.inputs[0])
        prediction = self._model.predict(prompt_from_text(text), self._threshold)
        p_match = np.array([[prediction.p_match]])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("p_match", p_match)])
