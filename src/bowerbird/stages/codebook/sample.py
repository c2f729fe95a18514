"""The frames that a codebook is fitted on: drawn from the training split, read from memory-mapped shards."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from bowerbird.artifacts.shards import Shards
from bowerbird.errors import BowerbirdError

logger = logging.getLogger(__name__)

FRAMES_AT_ONCE = 8192  # that are read


def draw_sample(manifest: pd.DataFrame, shards: Shards, count: int, seed: int) -> pd.DataFrame:
    """``count`` distinct frames (all, if there are fewer), drawn uniformly from the frames of the training split.

    The table has utt_id and frame, in order of both; it depends neither on the number nor on the order of the shards.
    Raises `BowerbirdError` where the training split has no frames.
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
    """The ``n`` frames of ``sample``, float32 ``(n, D)``, read in the order in which they lie on disk.

    Raises `BowerbirdError` where a value is not finite.
    """
    place = shards.index.set_index("utt_id").loc[sample["utt_id"], ["file", "start"]]
    files, rows = place["file"].to_numpy(), place["start"].to_numpy() + sample["frame"].to_numpy()
    frames = np.empty((len(sample), *shards.row_shape), dtype=np.float32)
    for number, array in enumerate(shards.arrays):
        mine = np.flatnonzero(files == number)
        mine = mine[np.argsort(rows[mine], kind="stable")]
        for start in range(0, len(mine), FRAMES_AT_ONCE):
            part = mine[start : start + FRAMES_AT_ONCE]
            frames[part] = array[rows[part]]
    bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
    if len(bad):
        utt_id = sample["utt_id"].iloc[bad[0]]
        raise BowerbirdError(f"features: {utt_id}: values that are not finite; extract them again")
    return frames
