"""Trains the matrix factorisation head of RouteLLM: `python -m tests.bench.serving.routellm.prepare FOLDER < rows`.

The training is RouteLLM's own (`MFModel_Train`, its loss), on the vectors that the stub upstream serves as embeddings,
at the published shape: 1,536 to 128, 64 models. The strong model "wins" the rows where the weak one was worse.
"""

import json
import sys
import tempfile

import numpy as np
import torch
from routellm.routers.matrix_factorization.model import MODEL_IDS, MFModel
from routellm.routers.matrix_factorization.train_matrix_factorization import MFModel_Train

from tests.bench.serving.vectors import DIMENSIONS, vector_of

WIDTH, MODELS, EPOCHS = 128, 64, 60
STRONG, WEAK = MODEL_IDS["gpt-4-1106-preview"], MODEL_IDS["mixtral-8x7b-instruct-v0.1"]

rows = [json.loads(line) for line in sys.stdin]
with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    np.save(file.name, np.array([vector_of(row["text"]) for row in rows], np.float32))
    net = MFModel_Train(WIDTH, MODELS, len(rows), DIMENSIONS, npy_path=file.name)
won = torch.tensor([WEAK if row["match"] else STRONG for row in rows])
lost = torch.tensor([STRONG if row["match"] else WEAK for row in rows])
optimiser = torch.optim.Adam([weights for weights in net.parameters() if weights.requires_grad], lr=3e-4)
for _ in range(EPOCHS):
    for some in torch.randperm(len(rows)).split(64):
        optimiser.zero_grad()
        logits = net(won[some], lost[some], some)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
        optimiser.step()
served = MFModel(dim=WIDTH, num_models=MODELS, text_dim=DIMENSIONS, num_classes=1, use_proj=True)
trained = net.state_dict()
served.load_state_dict(
    {
        "P.weight": trained["P.weight"],
        "text_proj.0.weight": trained["text_proj.weight"],
        "classifier.0.weight": trained["classifier.weight"],
    }
)
served.save_pretrained(sys.argv[1])
