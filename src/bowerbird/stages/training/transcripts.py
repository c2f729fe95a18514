"""Batches of whole utterances with their transcripts, for recognizers.

Letters: ``N`` samples.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import HOP, SAMPLE_RATE, int16_to_float
from bowerbird.errors import BowerbirdError
from bowerbird.stages.training.data import EpochBatches, Item, check_shards
from bowerbird.systems.base import Batch, BatchSpec

logger = logging.getLogger(__name__)

SHORTEST = 400  # samples: one frame of features


def split_text(text: str, symbols: str) -> list[str]:
    """A transcript as symbols.

    ``characters``: letters without case, apostrophes, and one space between words; all else is left out.
    ``words``: what spaces separate, for transcripts that are phones.
    """
    if symbols == "words":
        return text.split()
    plain = unicodedata.normalize("NFC", text).casefold().replace("’", "'")
    kept = "".join(
        c if c == "'" or unicodedata.category(c)[0] in "LM" else " " if c.isspace() or c == "-" else "" for c in plain
    )
    return list(" ".join(kept.split()))


class Transcripts:
    """Utterances and their transcripts; the symbols are those of the training split."""

    feature_dim = 0
    speakers: tuple[str, ...] = ()

    def __init__(self, spec: BatchSpec, manifest: Path, shards: Mapping[str, Sequence[Path]]) -> None:
        check_shards(spec, shards)
        self.spec, self.audio = spec, Shards(shards["audio"], length="num_samples")
        table = read_table(manifest, ["utt_id", "split", "text"])
        self._split = dict(zip(table["utt_id"], table["split"], strict=True))
        texts = zip(table["utt_id"], table["text"].fillna(""), strict=True)
        self._symbols = {utt_id: found for utt_id, text in texts if (found := split_text(text, spec.transcripts))}
        training = (found for utt_id, found in self._symbols.items() if self._split[utt_id] == "train")
        self.symbols = tuple(sorted({symbol for found in training for symbol in found}))
        if not self.symbols:
            raise BowerbirdError(
                f"{manifest}: no utterance of split train has a transcript (column text); a recognizer learns from them: "
                "give a corpus with transcripts, or set recognizer: pretrained and name features of one that is trained"
            )
        self._number = {symbol: number for number, symbol in enumerate(self.symbols, start=1)}

    def items(self, split: str, at_least: int = 1) -> list[Item]:
        """Utterances of a split with a transcript that fits into their frames, and no longer than `longest_s`."""
        found, silent, long, dense = [], 0, 0, 0
        for utt_id, samples in self.audio.lengths().items():
            if self._split.get(utt_id) != split:
                continue
            numbers, frames = self._numbers(utt_id), samples // HOP
            needed = len(numbers) + sum(a == b for a, b in pairwise(numbers))  # CTC puts a blank between equal symbols
            is_long = samples > self.spec.longest_s * SAMPLE_RATE
            silent, long, dense = silent + (not numbers), long + is_long, dense + (frames < needed)
            if numbers and max(at_least, needed) <= frames and samples >= SHORTEST and not is_long:
                found.append(Item(utt_id, frames))
        if silent or long or dense:
            reasons = (
                f"{silent} without a transcript, {long} longer than {self.spec.longest_s:g} s, "
                f"{dense} with more symbols than frames"
            )
            logger.info("split %s: utterances left out: %s", split, reasons)
        return found

    def _numbers(self, utt_id: str) -> list[int]:
        """Numbers of an utterance's symbols; those that the training split does not know are left out."""
        return [self._number[symbol] for symbol in self._symbols.get(utt_id, ()) if symbol in self._number]

    def batches(self, items: Sequence[Item], seed: int, batch_size: int, part: slice) -> TranscriptBatches:
        """The batches of all steps; ``part`` is this process's part of each."""
        return TranscriptBatches(self, items, seed, batch_size, part)

    def batch(self, items: Sequence[Item], uniform: Sequence[float] | None = None) -> Batch:
        """Whole utterances, zero-padded; in training with a number of [0, 1) for each."""
        waves = [torch.from_numpy(int16_to_float(np.asarray(self.audio[item.utt_id]))) for item in items]
        numbers = [torch.tensor(self._numbers(item.utt_id)) for item in items]
        tensors = {
            "audio": pad_sequence(waves, batch_first=True),
            "samples": torch.tensor([len(wave) for wave in waves]),
            "symbols": pad_sequence(numbers, batch_first=True),
            "symbol_counts": torch.tensor([len(one) for one in numbers]),
        }
        if uniform is not None:
            tensors["uniform"] = torch.tensor(uniform)
        return Batch(tuple(item.utt_id for item in items), tensors)

    def whole(self, item: Item, max_frames: int) -> Batch:
        """One utterance as a batch; never cut, or its transcript would not be its own."""
        return self.batch([item])


class TranscriptBatches(EpochBatches):
    """``batches[step]``: this process's part of the whole utterances of that step, each with a random number of its own."""

    def __init__(self, data: Transcripts, items: Sequence[Item], seed: int, batch_size: int, part: slice) -> None:
        super().__init__(items, seed, batch_size, part)
        self.data = data

    def __getitem__(self, step: int) -> Batch:
        generator = np.random.Generator(np.random.PCG64([self.seed, step]))
        uniform = generator.random(self.batch_size)
        return self.data.batch(self.draw(step)[self.part], uniform[self.part].tolist())
