"""How the codes of a codebook are used, and by whom."""

from __future__ import annotations

import numpy as np
import pandas as pd


def perplexity(counts: np.ndarray) -> float:
    """Number of equally used codes with the same entropy: ``2 ** H``."""
    return float(2 ** entropy_bits(np.asarray(counts)))


def entropy_bits(counts: np.ndarray) -> np.ndarray:
    """Entropy in bits of counts along the last axis; 0 where there are none."""
    total = counts.sum(axis=-1, keepdims=True)
    share = counts / np.maximum(total, 1)
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=-1)


def usage_table(counts: np.ndarray, runs: np.ndarray) -> pd.DataFrame:
    """One row a code from counts ``(speakers, K)`` and the number of runs of each code ``(K,)``."""
    frames = counts.sum(axis=0)
    return pd.DataFrame(
        {
            "code": np.arange(len(frames), dtype=np.int32),
            "frames": frames,
            "share": frames / max(1, frames.sum()),
            "run_frames": frames / np.maximum(runs, 1),
            "speakers": (counts > 0).sum(axis=0),
            "speaker_entropy": entropy_bits(counts.T),
            "top_speaker_share": counts.max(axis=0, initial=0) / np.maximum(frames, 1),
        }
    )


def usage_facts(counts: np.ndarray) -> dict[str, float | int]:
    """The codebook as a whole, from counts ``(speakers, K)``.

    ``speaker_nmi`` is the mutual information of code and speaker over the smaller of their entropies: 0 where codes
    say nothing about the speaker, 1 where one of the two determines the other.
    """
    by_code, by_speaker = counts.sum(axis=0), counts.sum(axis=1)
    code_bits, speaker_bits = float(entropy_bits(by_code)), float(entropy_bits(by_speaker))
    mutual = max(0.0, code_bits + speaker_bits - float(entropy_bits(counts.ravel())))
    smaller = min(code_bits, speaker_bits)
    return {
        "frames": int(counts.sum()),
        "speakers": len(by_speaker),
        "perplexity": perplexity(by_code),
        "dead_codes": int((by_code == 0).sum()),
        "codes_per_speaker": float((counts > 0).sum(axis=1).mean()) if len(counts) else 0.0,
        "speakers_per_code": float((counts > 0).sum(axis=0).mean()),
        "code_entropy": code_bits,
        "speaker_mutual_information": mutual,
        "speaker_nmi": mutual / smaller if smaller > 0 else 0.0,
    }
