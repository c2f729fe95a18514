"""K-means codebooks over self-supervised features, and the units (codes) of every frame.

The codebook is fitted on frames of the *training* speakers only, drawn from memory-mapped shards, so a corpus never
has to fit in memory. Look-up by cosine with the un-normalized centroid returned is QR-VC's vector quantiser.
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
    """Summarize how the codes are used, and by whom.

    Writes one row a code: frames, share, run_frames (mean length of a run of the code), speakers that use it,
    speaker_entropy (bits) and top_speaker_share; the facts embedded in the table describe the codebook as a whole.
    """
    book, shards = Codebook.load(codebook), Shards(units)
    identity = Identity(
        "codebook.summary", VERSION, {}, input_digests({"manifest": [manifest], "codebook": [codebook], "units": units})
    )
    with RunRecord() as record:
        speaker_of = read_table(manifest, ["utt_id", "speaker"]).set_index("utt_id")["speaker"]
        speakers = sorted({speaker_of[utt] for utt in shards if utt in speaker_of.index})
        row = {name: number for number, name in enumerate(speakers)}
        counts = np.zeros((len(speakers), len(book.centroids)), dtype=np.int64)
        runs = np.zeros(len(book.centroids), dtype=np.int64)
        for utt in shards:
            if utt not in speaker_of.index:
                raise BowerbirdError(f"{manifest}: no utterance {utt!r}, which the units have; make the units again")
            codes = np.asarray(shards[utt], dtype=np.int64)
            counts[row[speaker_of[utt]]] += np.bincount(codes, minlength=len(book.centroids))
            runs += np.bincount(codes[np.flatnonzero(np.diff(codes, prepend=-1))], minlength=len(book.centroids))
        facts = usage_facts(counts)
        record.extra["facts"] = facts
        record.write(output, identity)
        write_table(output, usage_table(counts, runs), identity, extra={"facts": facts})


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
