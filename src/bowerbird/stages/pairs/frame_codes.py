"""A code per frame of the feature shards: the unit of a codebook, or the likeliest phone.

Letters: ``T`` frames, ``D`` feature dimension, ``K`` codes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bowerbird.artifacts.shards import Shards, parameters_of
from bowerbird.audio import int16_to_float
from bowerbird.encoders.extractors import PhoneticEncoder
from bowerbird.errors import BowerbirdError
from bowerbird.stages.pairs.speech import PairableSpeech


class FrameCodes:
    """Codes by row of a feature shard: ``codes[file]``, ``(T,)``, has one for each row of shard number ``file``."""

    def __init__(self, arrays: dict[int, np.ndarray]) -> None:
        self._arrays = arrays
        self.num_codes = 1 + max((int(array.max()) for array in arrays.values() if len(array)), default=0)

    def __getitem__(self, file: int) -> np.ndarray:
        return self._arrays[file]

    def histogram(self, file: int, rows: np.ndarray) -> np.ndarray:
        """How often each code occurs in ``rows`` of a shard, int64 ``(K,)``."""
        return np.bincount(self[file][rows], minlength=self.num_codes)


def unit_codes(units: Shards, speech: PairableSpeech) -> FrameCodes:
    """The units of a codebook; raises `BowerbirdError` where their rows are not those of the features."""
    both = speech.shards.index.merge(units.index, on="utt_id", how="left", suffixes=("", "_units"))
    same = (both["start"] == both["start_units"]) & (both["frames"] == both["frames_units"])
    if not same.all() or [len(a) for a in units.arrays] != [len(a) for a in speech.shards.arrays]:
        lost = both.loc[~same, "utt_id"]
        raise BowerbirdError(
            f"units: {lost.iloc[0] if len(lost) else 'shards'}: not the rows of these features; "
            "make the units from the same features"
        )
    return FrameCodes({number: units.arrays[place] for number, place in speech.position.items()})


def phone_codes(phonetic: str, speech: PairableSpeech, audio: list[Path]) -> FrameCodes:
    """The likeliest phone of each frame of the train and valid utterances, by the phonetic encoder of that name.

    Phones are read from the features where these are what that encoder reads, and from ``audio`` elsewhere. Raises
    `BowerbirdError` where they can be read from neither.
    """
    encoder = PhoneticEncoder(phonetic)
    made = parameters_of(speech.shards.paths[0])
    is_own_layer = made == encoder.extractor.identity_params()
    if not is_own_layer and not audio:
        own = encoder.extractor.options
        raise BowerbirdError(
            f"--phonetic: {phonetic}: reads {own.encoder}, layer {own.layer}, and the features are of another encoder or "
            "layer: give --audio to read the phones from"
        )
    waves = None if is_own_layer else Shards(audio, "num_samples")
    arrays = {n: np.zeros(len(speech.shards.arrays[place]), np.uint8) for n, place in speech.position.items()}
    for clip in (clip for clips in speech.by_speaker.values() for clip in clips):
        if waves is None:
            posteriors = encoder.from_features(torch.from_numpy(speech.rows(clip).astype(np.float32)))
        else:
            posteriors = encoder.posteriors(int16_to_float(np.array(waves[clip.utt_id])))
        phones = posteriors.argmax(dim=-1).numpy()[: clip.frames]
        arrays[clip.file][clip.start : clip.start + len(phones)] = phones
    return FrameCodes(arrays)
