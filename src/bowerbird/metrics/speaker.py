"""Speaker similarity: cosines between embeddings of a verifier that no system was trained with.

Of each trial:

* ``secs``: converted speech against the **held-out** utterance of the target, which no system was given;
* ``secs_prompt``: against the mean embedding of the references, which the system was given (an easier comparison);
* ``src``: against the source utterance, how much of the source's voice is left;
* ``margin`` = secs - src, and ``nearer_target`` = 1 where the margin is positive;
* ``secs_real``: real speech of the target (the first reference) against the held-out utterance; no system enters;
* ``secs_other``: converted speech against a third speaker, the one of the trial's lower anchor: the held-out utterance
  of the first trial (by id) to that speaker, so that no anchor is ever compared with itself;
* ``acc_eer`` = 1 where the verifier, at its own threshold, accepts the conversion as the target. The threshold is where
  it errs equally often on **real** speech of this list: each trial's references with its held-out utterance are
  genuine, its source with it is an impostor. It is the same for every system, and the row names it. A failed conversion
  is not accepted. (Speaker verification accept rate, as in the VC literature since the 2020 challenge.)

Of the whole list (pooled as `bowerbird.metrics.registry` states):

* ``secs_rel`` = sum(secs - s) / sum(secs_real - s) over trials, where ``s`` is the source utterance against the held-out
  one: the share of the way from the source's voice to the target's. 0: nothing converted; 1: as near as the target's
  own speech. Our definition; it makes numbers of different verifiers roughly comparable;
* ``eer_ind``, equal error rate of *indistinguishability*: the verifier must tell real target speech (``secs_real``,
  positive) from converted (``secs``, negative). **Higher is better**, 50 % is as near as real speech: the protocol of
  kNN-VC (Baas et al. 2023);
* ``eer_ver``, equal error rate of *verification*: the conversion against its target (``secs``, positive) and against the
  third speaker (``secs_other``, negative). **Lower is better.** Papers call both "EER"; they move in opposite directions.

With ``evaluation.second_verifier`` everything is computed by a second model as well, under names ending in ``_second``.

Letters: ``D`` dimension of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors ``(D,)``, computed in float64; 0 if one of them is zero."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else 0.0


def mean_embedding(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Mean ``(D,)`` of embeddings ``(D,)`` brought to unit length, as enrolment from several utterances is done."""
    unit = [np.asarray(e, np.float64) / max(float(np.linalg.norm(e)), 1e-12) for e in embeddings]
    return np.mean(unit, axis=0)


def similarity_scores(
    converted: np.ndarray, heldout: np.ndarray, references: Sequence[np.ndarray], source: np.ndarray
) -> dict[str, float]:
    """Cosines of one trial that need no other trial, by metric, from embeddings ``(D,)``."""
    secs, src = cosine(converted, heldout), cosine(converted, source)
    return {
        "secs": secs,
        "secs_prompt": cosine(converted, mean_embedding(references)),
        "src": src,
        "margin": secs - src,
        "nearer_target": float(secs > src),
    }
