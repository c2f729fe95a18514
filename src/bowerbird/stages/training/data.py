"""Batches from shards. The batch of a step is a function of the seed and the step, and of nothing else.

So there is no sampler to save: training goes on after any step, on any number of processes, with the batches it would
have had.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bowerbird.artifacts.pairs import PairShards
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.audio import HOP
from bowerbird.encoders.spectral import frame_rate
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Batch, DataNeeds

logger = logging.getLogger(__name__)


FRAMES_PER_SECOND = 50


@dataclass(frozen=True)
class Item:
    """An utterance to train on."""

    utt_id: str
    frames: int
    variants: int = 1  # pairs it has


class StageData:
    """What a stage reads, opened: features always, the rest where the stage needs it."""

    def __init__(
        self,
        needs: DataNeeds,
        manifest: Path,
        features: Sequence[Path],
        audio: Sequence[Path] = (),
        pairs: Sequence[Path] = (),
        units: Sequence[Path] = (),
        mels: Sequence[Path] = (),
        phones: Sequence[Path] = (),
        voices: Sequence[Path] = (),
    ) -> None:
        wants = (("audio", needs.audio, audio), ("units", needs.units, units), ("mels", needs.mels, mels))
        for role, wanted, given in wants:
            if wanted and not given:
                raise BowerbirdError(f"--{role}: missing: this stage trains on it")
        if needs.pairs and not pairs:
            raise BowerbirdError("--pairs: missing: this stage trains on them")
        self.needs = needs
        self.features = Shards(features)
        self.audio = Shards(audio, length="num_samples") if needs.audio else None
        self.units = Shards(units) if needs.units else None
        self.mels = Shards(mels) if needs.mels else None
        self.mel_ratio = _rate(mels) / FRAMES_PER_SECOND if needs.mels else 1.0  # mel frames a frame of features
        self.phones, self.voices = (Shards(paths) if paths else None for paths in (phones, voices))
        self.pairs = PairShards(pairs) if pairs else None
        if self.pairs and needs.same_speaker_pairs:
            self.pairs.check_same_speaker()
        listed = read_table(manifest, ["utt_id", "speaker", "split"]).set_index("utt_id")
        self._split, self._speaker = listed["split"].to_dict(), listed["speaker"].to_dict()
        training = {
            s for utt_id, s in self._speaker.items() if self._split[utt_id] == "train" and utt_id in self.features
        }
        self.speakers = tuple(sorted(training))
        self._number = {name: number for number, name in enumerate(self.speakers)}
        self._utterances: dict[tuple[str, str], list[str]] = {}  # of (split, speaker), with all that a prompt needs
        if needs.prompt_frames:
            for utt_id in self.features.lengths():
                if self.audio is None or utt_id in self.audio:
                    key = (self._split.get(utt_id, ""), self._speaker.get(utt_id, ""))
                    self._utterances.setdefault(key, []).append(utt_id)

    @property
    def feature_dim(self) -> int:
        return int(self.features.row_shape[0])

    def items(self, split: str, at_least: int = 1) -> list[Item]:
        """Utterances of a split that have all that the stage needs and at least so many frames."""
        found, missing, short = [], 0, 0
        for utt_id, frames in self.features.lengths().items():
            if self._split.get(utt_id) != split:
                continue
            variants = self.pairs.variants(utt_id) if self.pairs else 1
            others = (self.audio, self.units, self.mels, self.phones, self.voices)
            have_all = variants and all(utt_id in shards for shards in others if shards is not None)
            missing, short = missing + (not have_all), short + (frames < at_least)
            if have_all and frames >= at_least:
                found.append(Item(utt_id, frames, variants))
        if missing or short:
            reasons = f"{missing} without all that the stage reads, {short} of less than {at_least} frames"
            logger.info("split %s: utterances left out: %s", split, reasons)
        return found

    def crop(self, item: Item, start: int, frames: int, variant: int = 0) -> dict[str, Tensor]:
        """Frames ``[start, start + frames)`` of an utterance with the samples ``[320 start, 320 (start + frames))``."""
        stop = start + frames
        features = np.asarray(self.features[item.utt_id][start:stop], dtype=np.float32)
        tensors = {"features": torch.from_numpy(features)}
        if self.audio is not None:
            samples = self.audio[item.utt_id][HOP * start : HOP * stop]
            wave = torch.from_numpy(samples.astype(np.float32) / 32768)
            tensors["audio"] = torch.nn.functional.pad(wave, (0, HOP * frames - len(wave)))
        if self.pairs is not None:
            tensors["retrieved"] = torch.from_numpy(
                self.pairs.retrieved(self.pairs.row(item.utt_id, variant), self.features, start, frames)
            )
        if self.units is not None:
            tensors["units"] = torch.from_numpy(self.units[item.utt_id][start:stop].astype(np.int64))
        if self.needs.speakers:
            tensors["speaker"] = torch.tensor(self._number.get(self._speaker[item.utt_id], -1))
        for name, shards, ratio in (("mels", self.mels, self.mel_ratio), ("phones", self.phones, 1.0)):
            if shards is not None:
                tensors[name] = rows_of(shards, item.utt_id, round(start * ratio), round(frames * ratio))
        if self.voices is not None and not self.needs.prompt_frames:
            tensors["voice"] = rows_of(self.voices, item.utt_id, 0, 1)[0]
        return tensors

    def prompt(self, item: Item, start: int, stop: int, length: int, chances: Sequence[float]) -> dict[str, Tensor]:
        """At most ``length`` frames of other speech of the speaker, zero-padded to ``length``.

        Another utterance of the split, by chance; where the speaker has only one, what lies before or after frames
        ``[start, stop)`` of it, whichever is longer (all of it, if that is less than a second).
        """
        which, where = chances
        everyone = self._utterances[self._split[item.utt_id], self._speaker[item.utt_id]]
        others = [utt_id for utt_id in everyone if utt_id != item.utt_id]
        utt_id = others[int(which * len(others))] if others else item.utt_id
        first, last = 0, self.features.lengths()[utt_id]
        if not others:
            first, last = max((0, start), (stop, item.frames), key=lambda part: part[1] - part[0])
            if last - first < FRAMES_PER_SECOND:
                first, last = 0, item.frames
        frames = min(length, last - first)
        first += int(where * (last - first - frames + 1))
        features = torch.zeros(length, self.feature_dim)
        features[:frames] = torch.from_numpy(np.asarray(self.features[utt_id][first : first + frames], np.float32))
        tensors = {"prompt": features, "prompt_frames": torch.tensor(frames)}
        if self.mels is not None:
            ratio = self.mel_ratio
            mels = rows_of(self.mels, utt_id, round(first * ratio), round(frames * ratio))
            tensors["prompt_mels"] = torch.nn.functional.pad(mels, (0, 0, 0, round(length * ratio) - len(mels)))
        if self.voices is not None:
            tensors["voice"] = rows_of(self.voices, utt_id, 0, 1)[0]
        if self.audio is not None:
            samples = np.asarray(self.audio[utt_id][HOP * first : HOP * (first + frames)], np.float32) / 32768
            tensors["prompt_audio"] = torch.nn.functional.pad(
                torch.from_numpy(samples), (0, HOP * length - len(samples))
            )
        return tensors

    def whole(self, item: Item, max_frames: int) -> Batch:
        """One utterance as a batch, cut at ``max_frames``, with the longest prompt."""
        frames = min(item.frames, max_frames)
        tensors = self.crop(item, 0, frames)
        if self.needs.prompt_frames:
            tensors |= self.prompt(item, 0, frames, self.needs.prompt_frames[1], (0.0, 0.0))
        return stack([item.utt_id], [tensors])


def _rate(paths: Sequence[Path]) -> float:
    """Frames a second of the features in shards."""
    return frame_rate(read_identity(paths[0].with_suffix(".parquet")).get("params", {}))


def rows_of(shards: Shards, utt_id: str, start: int, frames: int) -> Tensor:
    """``frames`` rows from ``start`` on; encoders differ by a frame at the end, where the last one stands for the next."""
    rows = torch.from_numpy(np.asarray(shards[utt_id][start : start + frames], np.float32))
    missing = frames - len(rows)
    return torch.cat([rows, rows[-1:].expand(missing, -1)]) if 0 < missing < frames else rows


def stack(utt_ids: Sequence[str], crops: Sequence[dict[str, Tensor]]) -> Batch:
    """Crops of one length as a batch."""
    return Batch(tuple(utt_ids), **{name: torch.stack([crop[name] for crop in crops]) for name in crops[0]})


class EpochBatches(Dataset[Batch]):
    """Which utterances each step has: they come in epochs, each once in an order drawn from ``[seed, epoch]``."""

    def __init__(self, items: Sequence[Item], seed: int, batch_size: int, part: slice) -> None:
        self.items, self.seed, self.batch_size, self.part = list(items), seed, batch_size, part

    def draw(self, step: int) -> list[Item]:
        """The utterances of a step, over all processes."""
        count = len(self.items)
        places = range((step - 1) * self.batch_size, step * self.batch_size)
        return [self.items[self._order(place // count)[place % count]] for place in places]

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_epoch", None) != epoch:
            # one draw from [seed, epoch, 1] cannot coincide with one from [seed, step]
            self._epoch, generator = epoch, np.random.Generator(np.random.PCG64([self.seed, epoch, 1]))
            self._permutation = generator.permutation(len(self.items))
        return self._permutation

    def from_step(self, first: int, last: int, workers: int) -> Iterator[Batch]:
        """The batches of steps ``first`` to ``last``, loaded ahead by ``workers`` processes."""
        steps = range(first, last + 1)
        return iter(DataLoader(self, batch_size=None, sampler=steps, num_workers=workers, collate_fn=_as_it_is))  # type: ignore[arg-type]


class StepBatches(EpochBatches):
    """``batches[step]``: this process's part of the batch of that step (from 1). Crops and donors are drawn from ``[seed, step]``."""

    def __init__(self, data: StageData, items: Sequence[Item], seed: int, batch_size: int, part: slice) -> None:
        super().__init__(items, seed, batch_size, part)
        self.data = data

    def __getitem__(self, step: int) -> Batch:
        items = self.draw(step)
        generator = np.random.Generator(np.random.PCG64([self.seed, step]))
        chances = generator.random((self.batch_size, 2))  # of the crop, of the donor
        frames = self.data.needs.segment_frames
        length, own = self._draw_prompts(step)
        crops = []
        for item, (at, donor), (which, where, chance) in zip(
            items[self.part], chances[self.part], own[self.part], strict=True
        ):
            start = int(at * (item.frames - frames + 1))
            tensors = self.data.crop(item, start, frames, int(donor * item.variants))
            tensors["chance"] = torch.tensor(chance)
            if length:
                tensors |= self.data.prompt(item, start, start + frames, length, (which, where))
            crops.append(tensors)
        return stack([item.utt_id for item in items[self.part]], crops)

    def _draw_prompts(self, step: int) -> tuple[int, np.ndarray]:
        """Length of this step's prompts (one for all: nothing is padded), and three chances an item."""
        generator = np.random.Generator(np.random.PCG64([self.seed, step, 2]))
        chances = generator.random((self.batch_size, 3))
        shortest, longest = self.data.needs.prompt_frames or (0, 0)
        return int(generator.integers(shortest, longest + 1)), chances


def _as_it_is(batch: Batch) -> Batch:
    return batch


def equal_parts(total: int, parts: int) -> list[slice]:
    """``range(total)`` cut in ``parts`` slices whose lengths differ by one at most."""
    ends = [total * part // parts for part in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]
