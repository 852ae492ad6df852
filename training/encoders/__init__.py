"""Encoders: sentence-transformers models as ONNX graphs, and the vectors that they give.

Comes in: a model or the name of a kept encoder. Goes out: a quantised graph; for prompts, cached dense vectors.
"""
