"""The CLIP score: how well each picture fits its own caption.

Source: Hessel et al. 2021, with weight 100 and no prefix before the caption.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def clip_scores(pictures: ArrayLike, captions: ArrayLike) -> NDArray[np.float64]:
    """Return 100 max(cos, 0) of each pair, float64 [N] in 0..100; a zero embedding scores 0.

    Each pair is clamped by itself; the mean of the clamped is the score of a set.

    Args:
        pictures: Embeddings [N, D].
        captions: Embeddings [N, D]; row i belongs to picture i.
    """
    cosines = np.sum(_unit(pictures) * _unit(captions), axis=1)
    return np.asarray(100 * np.clip(cosines, 0, 1))


def _unit(rows: ArrayLike) -> NDArray[np.float64]:
    vectors = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))
