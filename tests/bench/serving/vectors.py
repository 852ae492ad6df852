"""A vector for any text, in microseconds and always the same: what the stub upstream serves as an embedding.

Only the standard library and numpy: RouteLLM's head is trained on the same vectors in its own environment.
"""

import zlib

import numpy as np

DIMENSIONS = 1536
"""As of text-embedding-3-small, which RouteLLM asks for."""


def vector_of(text: str) -> np.ndarray:
    """Return the (1536,) L2-normalised counts of hashed words of the first 8,000 characters."""
    buckets = [zlib.crc32(word.encode()) % DIMENSIONS for word in text[:8000].lower().split()]
    counts = np.bincount(buckets or [0], minlength=DIMENSIONS)
    return counts / np.linalg.norm(counts)
