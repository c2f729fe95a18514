"""Batches of whole utterances with what is said in them, for recognizers."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.errors import BowerbirdError
from bowerbird.stages.training.data import EpochBatches, Item
from bowerbird.systems.base import Batch, DataNeeds

logger = logging.getLogger(__name__)


SHORTEST = 400  # samples


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
    """Utterances and their transcripts; the symbols are those of the training split's."""

    feature_dim = 0
    speakers: tuple[str, ...] = ()

    def __init__(self, needs: DataNeeds, manifest: Path, audio: Sequence[Path]) -> None:
        if not audio:
            raise BowerbirdError("--audio: missing: this stage trains on it")
        self.needs, self.audio = needs, Shards(audio, length="num_samples")
        table = read_table(manifest, ["utt_id", "split", "text"])
        self._split = dict(zip(table["utt_id"], table["split"], strict=True))
        texts = zip(table["utt_id"], table["text"].fillna(""), strict=True)
        self._text = {utt_id: said for utt_id, text in texts if (said := split_text(text, needs.transcripts))}
        known = (said for utt_id, said in self._text.items() if self._split[utt_id] == "train")
        self.symbols = tuple(sorted({symbol for said in known for symbol in said}))
        if not self.symbols:
            raise BowerbirdError(
                f"{manifest}: no utterance of split train has a transcript (column text); a recognizer learns from them: "
                "give a corpus with transcripts, or set recognizer: given and name one that is trained"
            )
        self._number = {symbol: number for number, symbol in enumerate(self.symbols, start=1)}

    def items(self, split: str, at_least: int = 1) -> list[Item]:
        """Utterances of a split with a transcript that fits into their frames, and no longer than asked for."""
        found, silent, long, dense = [], 0, 0, 0
        for utt_id, samples in self.audio.lengths().items():
            if self._split.get(utt_id) != split:
                continue
            said, frames = self._symbols(utt_id), samples // HOP
            repeats = sum(a == b for a, b in pairwise(said))
            silent, long = silent + (not said), long + (samples > self.needs.longest_s * SAMPLE_RATE)
            dense += frames < len(said) + repeats
            fits = at_least <= frames and len(said) + repeats <= frames and samples >= SHORTEST
            if said and fits and samples <= self.needs.longest_s * SAMPLE_RATE:
                found.append(Item(utt_id, frames))
        if silent or long or dense:
            logger.info(
                "split %s: utterances left out: %d without a transcript, %d longer than %g s, %d with more symbols than frames",
                split,
                silent,
                long,
                self.needs.longest_s,
                dense,
            )
        return found

    def _symbols(self, utt_id: str) -> list[int]:
        """Numbers of the symbols said; those that the training split does not know are left out."""
        return [self._number[symbol] for symbol in self._text.get(utt_id, ()) if symbol in self._number]

    def batch(self, items: Sequence[Item], chances: Sequence[float] | None = None) -> Batch:
        """Whole utterances, padded with zeros."""
        waves = [torch.from_numpy(np.asarray(self.audio[item.utt_id], np.float32) / 32768) for item in items]
        said = [torch.tensor(self._symbols(item.utt_id)) for item in items]
        return Batch(
            tuple(item.utt_id for item in items),
            torch.zeros(len(items), 0, 0),
            audio=pad_sequence(waves, batch_first=True),
            samples=torch.tensor([len(wave) for wave in waves]),
            symbols=pad_sequence(said, batch_first=True),
            symbol_counts=torch.tensor([len(one) for one in said]),
            chance=None if chances is None else torch.tensor(chances),
        )

    def whole(self, item: Item, max_frames: int) -> Batch:
        """One utterance as a batch; never cut, or its transcript would not be its own."""
        return self.batch([item])


class TranscriptBatches(EpochBatches):
    """``batches[step]``: this process's part of the whole utterances of that step; each comes with a chance of its own."""

    def __init__(self, data: Transcripts, items: Sequence[Item], seed: int, batch_size: int, part: slice) -> None:
        super().__init__(items, seed, batch_size, part)
        self.data = data

    def __getitem__(self, step: int) -> Batch:
        generator = np.random.Generator(np.random.PCG64([self.seed, step]))
        chances = generator.random(self.batch_size)
        return self.data.batch(self.draw(step)[self.part], chances[self.part].tolist())
