"""`summarize-units`: how often each code is used, and by which speakers.

Letters: ``S`` speakers, ``K`` codes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bowerbird.artifacts.codebook import Codebook
from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table, write_table
from bowerbird.errors import BowerbirdError
from bowerbird.stages.codebook import VERSION


def summarize_units(manifest: Path, codebook: Path, units: list[Path], output: Path) -> None:
    """Summarize how the codes are used, and by which speakers.

    Writes one row per code: frames, share, run_frames (mean length of a run of the code), speakers that use it,
    speaker_entropy (bits) and top_speaker_share. The statistics embedded in the table describe the codebook as a whole.
    """
    num_codes, shards = len(Codebook.load(codebook).centroids), Shards(units)
    inputs = input_digests({"manifest": [manifest], "codebook": [codebook], "units": units})
    identity = Identity("codebook.summary", VERSION, {}, inputs)
    record = RunRecord()
    speaker_of = read_table(manifest, ["utt_id", "speaker"]).set_index("utt_id")["speaker"]
    strange = next((utt_id for utt_id in shards if utt_id not in speaker_of.index), None)
    if strange is not None:
        raise BowerbirdError(f"{manifest}: no utterance {strange!r}, which the units have; make the units again")
    counts, runs = count_codes(shards, speaker_of, num_codes)
    stats = usage_stats(counts)
    record.extra["facts"] = stats
    record.write(output, identity)
    write_table(output, usage_table(counts, runs), identity, extra={"facts": stats})


def count_codes(units: Shards, speaker_of: pd.Series, num_codes: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each speaker uses each code, int64 ``(S, K)``, and the number of runs of each code, int64 ``(K,)``.

    ``speaker_of`` has the speaker of every utterance; the rows are the speakers that have units, by name.
    """
    speakers = sorted({speaker_of[utt_id] for utt_id in units})
    row_of = {name: row for row, name in enumerate(speakers)}
    counts = np.zeros((len(speakers), num_codes), dtype=np.int64)
    runs = np.zeros(num_codes, dtype=np.int64)
    for utt_id in units:
        codes = np.asarray(units[utt_id], dtype=np.int64)
        counts[row_of[speaker_of[utt_id]]] += np.bincount(codes, minlength=num_codes)
        runs += np.bincount(codes[np.flatnonzero(np.diff(codes, prepend=-1))], minlength=num_codes)
    return counts, runs


def perplexity(counts: np.ndarray) -> float:
    """Number of equally used codes that have the entropy H of ``counts (K,)``: ``2 ** H``."""
    return float(2 ** entropy_bits(np.asarray(counts)))


def entropy_bits(counts: np.ndarray) -> np.ndarray:
    """Entropy in bits of counts ``(..., K)`` along the last axis, ``(...)``; 0 where all of them are 0."""
    total = counts.sum(axis=-1, keepdims=True)
    share = counts / np.maximum(total, 1)
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=-1)


def usage_table(counts: np.ndarray, runs: np.ndarray) -> pd.DataFrame:
    """One row per code, from ``counts (S, K)`` and the number of runs of each code ``(K,)``."""
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


def usage_stats(counts: np.ndarray) -> dict[str, float | int]:
    """Statistics of the codebook as a whole, from ``counts (S, K)``.

    ``speaker_nmi`` is the mutual information of code and speaker over the smaller of their entropies: 0 where they are
    independent, 1 where one of the two determines the other.
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
