"""Speaker similarity: cosines between embeddings of a verifier that no system was trained with.

* ``secs``: converted speech against the **held-out** utterance of the target, which no system heard;
* ``secs_prompt``: against the mean embedding of the references, which the system did hear (an easier judge);
* ``src``: against the source utterance, how much of the source's voice is left;
* ``margin`` = secs - src, and ``nearer_target`` = 1 where the margin is positive.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors ``(dim,)``, computed in float64; 0 if one of them is zero."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else 0.0


def mean_embedding(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Mean ``(dim,)`` of embeddings brought to unit length, as enrolment from several utterances is done."""
    unit = [np.asarray(e, np.float64) / max(float(np.linalg.norm(e)), 1e-12) for e in embeddings]
    return np.mean(unit, axis=0)


def similarity_scores(
    converted: np.ndarray, heldout: np.ndarray, references: Sequence[np.ndarray], source: np.ndarray
) -> dict[str, float]:
    """All speaker metrics of one trial, from embeddings ``(dim,)``."""
    secs, src = cosine(converted, heldout), cosine(converted, source)
    return {
        "secs": secs,
        "secs_prompt": cosine(converted, mean_embedding(references)),
        "src": src,
        "margin": secs - src,
        "nearer_target": float(secs > src),
    }
