"""LiteLLM's two heuristics on each text: (n, 2) of complexity score and probability that the lowest tier succeeds."""

import json
import sys
from pathlib import Path

import numpy as np
from litellm.router_strategy.adaptive_router.classifier import classify_prompt
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
from litellm.router_strategy.complexity_router.tier_predictor import TierSuccessPredictor, resolve_tier_artifact

folder = Path(sys.argv[1])
texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
router = ComplexityRouter(model_name="bench", litellm_router_instance=None)
predictor = TierSuccessPredictor(resolve_tier_artifact("ultrafeedback"))
answers = [
    (router.classify(text)[1], predictor.predict(text, classify_prompt(text)).probabilities[1]) for text in texts
]
np.save(folder / "answers.npy", np.array(answers))
