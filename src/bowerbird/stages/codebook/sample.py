"""The frames that a codebook is fitted on."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from bowerbird.artifacts.shards import Shards
from bowerbird.errors import BowerbirdError

logger = logging.getLogger(__name__)
_CHUNK = 8192  # frames read at a time


def draw_sample(manifest: pd.DataFrame, shards: Shards, count: int, seed: int) -> pd.DataFrame:
    """``count`` distinct frames (all, if there are fewer), uniform over the frames of the training split.

    Returns utt_id and frame, in order of utterance and frame. Depends neither on the number nor on the order of shards.
    """
    training = set(manifest.loc[manifest["split"] == "train", "utt_id"])
    lengths = {utt: n for utt, n in sorted(shards.lengths().items()) if utt in training}
    ends = np.cumsum(list(lengths.values()), dtype=np.int64)
    if not len(ends) or ends[-1] == 0:
        raise BowerbirdError(
            "manifest.split: no frames of split 'train': a codebook is fitted on training speakers "
            "only; lower corpus.valid_speakers and corpus.test_speakers, or mark utterances as train"
        )
    total = int(ends[-1])
    if count >= total:
        logger.info("the training split has %d frames, fewer than sample_frames = %d: all are taken", total, count)
        chosen = np.arange(total)
    else:
        chosen = np.sort(np.random.default_rng(seed).choice(total, count, replace=False, shuffle=False))
    which = np.searchsorted(ends, chosen, side="right")
    starts = ends - np.array(list(lengths.values()))
    names = np.array(list(lengths), dtype=object)
    return pd.DataFrame({"utt_id": names[which], "frame": (chosen - starts[which]).astype(np.int64)})


def gather_frames(shards: Shards, sample: pd.DataFrame) -> np.ndarray:
    """The sampled frames, float32 ``(n, dim)``, read from the memory-mapped shards in order of their place on disk."""
    place = shards.index.set_index("utt_id").loc[sample["utt_id"], ["file", "start"]]
    files, rows = place["file"].to_numpy(), place["start"].to_numpy() + sample["frame"].to_numpy()
    frames = np.empty((len(sample), *shards.row_shape), dtype=np.float32)
    for number, array in enumerate(shards.arrays):
        mine = np.flatnonzero(files == number)
        mine = mine[np.argsort(rows[mine], kind="stable")]
        for start in range(0, len(mine), _CHUNK):
            part = mine[start : start + _CHUNK]
            frames[part] = array[rows[part]]
    bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
    if len(bad):
        utt_id = sample["utt_id"].iloc[bad[0]]
        raise BowerbirdError(f"features: {utt_id}: values that are not finite; extract them again")
    return frames
