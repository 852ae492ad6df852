"""RouteLLM's matrix factorisation head, trained on our vectors and labels with its own class and its own settings.

Settings of its training file: 128 wide, Adam at 3e-4 with decay 1e-5, batches of 64, noise 0.1 on the vectors; 20
epochs, as its 100 take minutes a fold. A row is a win of the strong model where the weak one was worse, else a win of
the weak one; p_match is the sigmoid of weak against strong.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from routellm.routers.matrix_factorization.model import MODEL_IDS
from routellm.routers.matrix_factorization.train_matrix_factorization import MFModel_Train

WIDTH, EPOCHS, BATCH, NOISE = 128, 20, 64, 0.1
STRONG, WEAK = MODEL_IDS["gpt-4-1106-preview"], MODEL_IDS["mixtral-8x7b-instruct-v0.1"]

folder = Path(sys.argv[1])
given = np.load(folder / "arrays.npz")
vectors, match = given["vectors"].astype(np.float32), given["match"]
train, test = torch.tensor(given["train"]), torch.tensor(given["test"])
torch.manual_seed(int(given["seed"]))
with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    np.save(file.name, vectors)
    net = MFModel_Train(WIDTH, len(MODEL_IDS), len(vectors), vectors.shape[1], npy_path=file.name)
is_match = torch.tensor(match == 1)
won, lost = torch.where(is_match, WEAK, STRONG), torch.where(is_match, STRONG, WEAK)
learned = [weights for weights in net.parameters() if weights.requires_grad]
optimiser = torch.optim.Adam(learned, lr=3e-4, weight_decay=1e-5)
for _ in range(EPOCHS):
    for some in train[torch.randperm(len(train))].split(BATCH):
        optimiser.zero_grad()
        logits = net(won[some], lost[some], some, alpha=NOISE)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
        optimiser.step()
with torch.no_grad():
    weak, strong = torch.full_like(test, WEAK), torch.full_like(test, STRONG)
    np.save(folder / "answers.npy", torch.sigmoid(net(weak, strong, test, test=True)).double().numpy())
