"""Batches from shards. The batch of a step is a function of the seed and the step, and of nothing else.

So there is no sampler to save: training goes on after any step, on any number of processes, with the batches it would
have had.

Letters: ``T`` frames of a crop, ``P`` frames of a prompt, ``N`` samples, ``D`` dimension of a row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bowerbird.artifacts.pairs import PairShards
from bowerbird.artifacts.shards import Shards, parameters_of
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import FRAMES_PER_SECOND, HOP, int16_to_float
from bowerbird.encoders.spectral import frame_rate
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Batch, BatchSpec

logger = logging.getLogger(__name__)

TIMED = ("features", "audio", "retrieved", "mels", "phones", "world")  # roles whose first axis is time
MOMENT_UTTERANCES = 256  # of the training split, over which mean and deviation are taken

# The shards that a role of a batch is read from, by the option of the command that names them.
SHARDS_OF_ROLE: Mapping[str, str] = {
    "features": "features",
    "audio": "audio",
    "retrieved": "pairs",
    "mels": "mels",
    "phones": "phones",
    "world": "world",
    "speaker_embedding": "speaker_embeddings",
    "prompt": "features",
    "prompt_audio": "audio",
    "prompt_mels": "mels",
}


def shards_needed(spec: BatchSpec) -> set[str]:
    """The shards that must be given for the batches of a stage; frames are counted in those of features."""
    needed = {SHARDS_OF_ROLE[role] for role in spec.roles if role in SHARDS_OF_ROLE}
    return needed if spec.transcripts else needed | {"features"}


def shards_used(spec: BatchSpec) -> set[str]:
    """The shards that the batches of a stage are read from if they are given."""
    return shards_needed(spec) | {SHARDS_OF_ROLE[role] for role in spec.optional}


def check_shards(spec: BatchSpec, shards: Mapping[str, Sequence[Path]]) -> None:
    """Raises an error that names shards which the stage needs and which are not given, or that it does not read."""
    given = {name for name, paths in shards.items() if paths}
    if missing := sorted(shards_needed(spec) - given):
        raise BowerbirdError(f"--{missing[0].replace('_', '-')}: missing: this stage trains on it")
    if unread := sorted(given - shards_used(spec)):
        raise BowerbirdError(f"--{unread[0].replace('_', '-')}: this stage does not read it; leave it out")


@dataclass(frozen=True)
class Item:
    """An utterance to train on."""

    utt_id: str
    frames: int
    num_variants: int = 1  # pairs it has


class PromptPiece(NamedTuple):
    """A stretch of an utterance that is part of a prompt."""

    utt_id: str
    first: int  # frame
    frames: int


class TrainingData(Protocol):
    """What a stage trains on, opened."""

    speakers: tuple[str, ...]  # of the training split, in order
    symbols: tuple[str, ...]  # of its transcripts, in order
    spec: BatchSpec

    @property
    def feature_dim(self) -> int:
        """Dimension of the features; 0 without features."""

    def items(self, split: str, at_least: int = 1) -> list[Item]:
        """Utterances of a split that have all that the stage needs and at least so many frames."""

    def whole(self, item: Item, max_frames: int) -> Batch:
        """One utterance as a batch."""

    def batches(self, items: Sequence[Item], seed: int, batch_size: int, part: slice) -> EpochBatches:
        """The batches of all steps; ``part`` is this process's part of each."""


class StageData:
    """Shards by role, opened: what the stage declares, and the optional ones that are given."""

    symbols: tuple[str, ...] = ()

    def __init__(self, spec: BatchSpec, manifest: Path, shards: Mapping[str, Sequence[Path]]) -> None:
        check_shards(spec, shards)
        given = {name: list(paths) for name, paths in shards.items() if paths}
        self.spec = spec
        self.roles = spec.roles | {role for role in spec.optional if SHARDS_OF_ROLE[role] in given}
        self.pairs = PairShards(given.pop("pairs")) if "pairs" in given else None
        if self.pairs and spec.same_speaker_pairs:
            self.pairs.check_same_speaker()
        lengths = {"audio": "num_samples"}
        self.shards = {name: Shards(paths, lengths.get(name, "frames")) for name, paths in given.items()}
        self.features = self.shards["features"]
        mels = parameters_of(given["mels"][0]) if "mels" in given else {}
        self.mel_ratio = frame_rate(mels) / FRAMES_PER_SECOND
        listed = read_table(manifest, ["utt_id", "speaker", "split"]).set_index("utt_id")
        self._split, self._speaker = listed["split"].to_dict(), listed["speaker"].to_dict()
        training = (u for u in self._speaker if self._split[u] == "train" and u in self.features)
        self.speakers = tuple(sorted({self._speaker[utt_id] for utt_id in training}))
        self._number = {name: number for number, name in enumerate(self.speakers)}
        self._utterances = self._prompting_utterances() if spec.prompt_frames else {}

    def _prompting_utterances(self) -> dict[tuple[str, str], list[str]]:
        """The utterances of each (split, speaker) that have all that a prompt is cut from."""
        found: dict[tuple[str, str], list[str]] = {}
        of_prompts = [self.shards[name] for name in ("audio", "mels", "speaker_embeddings") if name in self.shards]
        for utt_id in self.features.lengths():
            if all(utt_id in shards for shards in of_prompts):
                key = (self._split.get(utt_id, ""), self._speaker.get(utt_id, ""))
                found.setdefault(key, []).append(utt_id)
        return found

    @property
    def feature_dim(self) -> int:
        """Dimension of the features."""
        return int(self.features.row_shape[0])

    def items(self, split: str, at_least: int = 1) -> list[Item]:
        """Utterances of a split that have all that the stage needs and at least so many frames."""
        found, missing, short = [], 0, 0
        for utt_id, frames in self.features.lengths().items():
            if self._split.get(utt_id) != split:
                continue
            variants = self.pairs.variants(utt_id) if self.pairs else 1
            have_all = variants and all(utt_id in shards for shards in self.shards.values())
            missing, short = missing + (not have_all), short + (frames < at_least)
            if have_all and frames >= at_least:
                found.append(Item(utt_id, frames, variants))
        if missing or short:
            reasons = f"{missing} without all that the stage reads, {short} of less than {at_least} frames"
            logger.info("split %s: utterances left out: %s", split, reasons)
        return found

    def moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and deviation ``(D,)`` float32 of each role that the stage asks for, over training utterances evenly spaced."""
        items = self.items("train") if self.spec.moments else []
        chosen = items[:: max(1, len(items) // MOMENT_UTTERANCES)]
        found = {}
        for role in sorted(self.spec.moments) if chosen else ():
            shards = self.shards[SHARDS_OF_ROLE[role]]
            rows = np.concatenate([np.asarray(shards[item.utt_id], np.float64) for item in chosen])
            found[role] = (torch.from_numpy(rows.mean(0)).float(), torch.from_numpy(rows.std(0)).float())
        return found

    def batches(self, items: Sequence[Item], seed: int, batch_size: int, part: slice) -> StepBatches:
        """The batches of all steps; ``part`` is this process's part of each."""
        return StepBatches(self, items, seed, batch_size, part)

    def crop(self, item: Item, start: int, frames: int, variant: int = 0) -> dict[str, Tensor]:
        """Tensors by role of the frames ``[start, start + frames)`` of an utterance, as `ROLES` has them for one item."""
        tensors: dict[str, Tensor] = {}
        if "features" in self.roles:
            tensors["features"] = self._rows("features", item.utt_id, start, frames)
        if "audio" in self.roles:
            tensors["audio"] = self._wave(item.utt_id, start, frames, frames)
        if self.pairs is not None:
            row = self.pairs.row(item.utt_id, variant)
            tensors["retrieved"] = torch.from_numpy(self.pairs.retrieved(row, self.features, start, frames))
        if "speaker" in self.roles:
            tensors["speaker"] = torch.tensor(self._number.get(self._speaker[item.utt_id], -1))
        for role, ratio in (("mels", self.mel_ratio), ("phones", 1.0), ("world", 1.0)):
            if role in self.roles:
                tensors[role] = self._filled_rows(role, item.utt_id, round(start * ratio), round(frames * ratio))
        if "speaker_embedding" in self.roles and not self.spec.prompt_frames:
            tensors["speaker_embedding"] = self._rows("speaker_embeddings", item.utt_id, 0, 1)[0]
        return tensors

    def pad(self, tensors: Mapping[str, Tensor], frames: int) -> dict[str, Tensor]:
        """A crop with zeros behind it, as long as one of ``frames``; what is not in time stays as it is."""
        padded = dict(tensors)
        for role in [role for role in TIMED if role in tensors]:
            length = {"audio": HOP * frames, "mels": round(frames * self.mel_ratio)}.get(role, frames)
            tensor = tensors[role]
            padded[role] = F.pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, length - len(tensor)))
        return padded

    def prompt(self, item: Item, start: int, stop: int, length: int, uniform: Sequence[float]) -> dict[str, Tensor]:
        """At most ``length`` frames of other speech of the speaker, zero-padded to ``length``, by role.

        Other utterances of the split, one after the other until there is enough; where the speaker has only one, what lies
        before or after frames ``[start, stop)`` of it, whichever is longer (all of it, if that is less than a second).
        ``uniform`` are two numbers in [0, 1): they choose the first utterance and the place in it.
        """
        pieces = self._choose_prompt(item, start, stop, length, uniform)
        frames = sum(piece.frames for piece in pieces)
        tensors = {"prompt_frames": torch.tensor(frames)}
        if "prompt" in self.roles:
            rows = torch.cat([self._rows("features", *piece) for piece in pieces])
            tensors["prompt"] = F.pad(rows, (0, 0, 0, length - len(rows)))
        if "prompt_mels" in self.roles:
            ratio = self.mel_ratio
            mels = torch.cat([self._filled_rows("mels", u, round(f * ratio), round(n * ratio)) for u, f, n in pieces])
            tensors["prompt_mels"] = F.pad(mels, (0, 0, 0, round(length * ratio) - len(mels)))
        if "speaker_embedding" in self.roles:
            tensors["speaker_embedding"] = self._rows("speaker_embeddings", pieces[0].utt_id, 0, 1)[0]
        if "prompt_audio" in self.roles:
            wave = torch.cat([self._wave(*piece, piece.frames) for piece in pieces])
            tensors["prompt_audio"] = F.pad(wave, (0, HOP * length - len(wave)))
        return tensors

    def _choose_prompt(
        self, item: Item, start: int, stop: int, length: int, uniform: Sequence[float]
    ) -> list[PromptPiece]:
        """The pieces of a prompt, as `prompt` says; all but the first begin with their utterance."""
        which, where = uniform
        everyone = self._utterances[self._split[item.utt_id], self._speaker[item.utt_id]]
        others = [utt_id for utt_id in everyone if utt_id != item.utt_id]
        if not others:
            first, last = max((0, start), (stop, item.frames), key=lambda part: part[1] - part[0])
            if last - first < FRAMES_PER_SECOND:
                first, last = 0, item.frames
            frames = min(length, last - first)
            return [PromptPiece(item.utt_id, first + int(where * (last - first - frames + 1)), frames)]
        lengths, left = self.features.lengths(), length
        pieces: list[PromptPiece] = []
        begin = int(which * len(others))
        for utt_id in (*others[begin:], *others[:begin]):
            if left <= 0:
                break
            frames = min(left, lengths[utt_id])
            spare = 0 if pieces else lengths[utt_id] - frames
            pieces.append(PromptPiece(utt_id, int(where * (spare + 1)), frames))
            left -= frames
        return pieces

    def whole(self, item: Item, max_frames: int) -> Batch:
        """One utterance as a batch, cut at ``max_frames``, with the longest prompt."""
        frames = min(item.frames, max_frames)
        tensors = self.crop(item, 0, frames)
        if "frames" in self.roles:
            tensors["frames"] = torch.tensor(frames)
        if self.spec.prompt_frames:
            tensors |= self.prompt(item, 0, frames, self.spec.prompt_frames[1], (0.0, 0.0))
        return stack([item.utt_id], [tensors])

    def _rows(self, name: str, utt_id: str, start: int, frames: int) -> Tensor:
        """Rows ``[start, start + frames)`` of an utterance as float32 ``(T, D)``."""
        return torch.from_numpy(np.asarray(self.shards[name][utt_id][start : start + frames], dtype=np.float32))

    def _filled_rows(self, name: str, utt_id: str, start: int, frames: int) -> Tensor:
        """As `_rows`; encoders differ by a frame at the end, where the last one stands for the next."""
        rows = self._rows(name, utt_id, start, frames)
        missing = frames - len(rows)
        return torch.cat([rows, rows[-1:].expand(missing, -1)]) if 0 < missing < frames else rows

    def _wave(self, utt_id: str, start: int, frames: int, length: int) -> Tensor:
        """Samples of the frames ``[start, start + frames)`` as ``(320 length,)``, zero-padded."""
        wave = int16_to_float(self.shards["audio"][utt_id][HOP * start : HOP * (start + frames)])
        return F.pad(torch.from_numpy(wave), (0, HOP * length - len(wave)))


def stack(utt_ids: Sequence[str], crops: Sequence[Mapping[str, Tensor]]) -> Batch:
    """Crops of one length as a batch."""
    return Batch(tuple(utt_ids), {role: torch.stack([crop[role] for crop in crops]) for role in crops[0]})


class EpochBatches(Dataset[Batch]):
    """The utterances of each step: they come in epochs, each once in an order drawn from ``[seed, epoch]``."""

    def __init__(self, items: Sequence[Item], seed: int, batch_size: int, part: slice) -> None:
        self.items, self.seed, self.batch_size, self.part = list(items), seed, batch_size, part
        self._epoch, self._permutation = -1, np.zeros(0, np.int64)  # the last epoch that was drawn, and its order

    def draw(self, step: int) -> list[Item]:
        """The utterances of a step, over all processes."""
        count = len(self.items)
        places = range((step - 1) * self.batch_size, step * self.batch_size)
        return [self.items[self._order(place // count)[place % count]] for place in places]

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch != epoch:
            # one draw from [seed, epoch, 1] cannot coincide with one from [seed, step]
            self._epoch, generator = epoch, np.random.Generator(np.random.PCG64([self.seed, epoch, 1]))
            self._permutation = generator.permutation(len(self.items))
        return self._permutation

    def from_step(self, first: int, last: int, workers: int) -> Iterator[Batch]:
        """The batches of steps ``first`` to ``last``, loaded ahead by ``workers`` processes."""
        return iter(DataLoader(self, batch_size=None, sampler=range(first, last + 1), num_workers=workers))


class StepBatches(EpochBatches):
    """``batches[step]``: this process's part of the batch of that step (from 1). Crops and donors are drawn from ``[seed, step]``."""

    def __init__(self, data: StageData, items: Sequence[Item], seed: int, batch_size: int, part: slice) -> None:
        super().__init__(items, seed, batch_size, part)
        self.data = data

    def __getitem__(self, step: int) -> Batch:
        items = self.draw(step)
        generator = np.random.Generator(np.random.PCG64([self.seed, step]))
        places = generator.random((self.batch_size, 2))  # of the crop, of the donor
        frames, roles = self.data.spec.segment_frames, self.data.roles
        length, own = self._draw_prompts(step)
        crops = []
        for item, (at, donor), (which, where, uniform) in zip(
            items[self.part], places[self.part], own[self.part], strict=True
        ):
            count = min(frames, item.frames)  # fewer where the stage takes shorter utterances, and masks what is padded
            start = int(at * (item.frames - count + 1))
            tensors = self.data.crop(item, start, count, int(donor * item.num_variants))
            if "frames" in roles:
                tensors = self.data.pad(tensors, frames) | {"frames": torch.tensor(count)}
            if "uniform" in roles:
                tensors["uniform"] = torch.tensor(uniform)
            if length:
                tensors |= self.data.prompt(item, start, start + count, length, (which, where))
            crops.append(tensors)
        return stack([item.utt_id for item in items[self.part]], crops)

    def _draw_prompts(self, step: int) -> tuple[int, np.ndarray]:
        """Length of this step's prompts (one for all: nothing is padded), and three numbers in [0, 1) per item."""
        generator = np.random.Generator(np.random.PCG64([self.seed, step, 2]))
        uniform = generator.random((self.batch_size, 3))
        shortest, longest = self.data.spec.prompt_frames or (0, 0)
        return int(generator.integers(shortest, longest + 1)), uniform


def equal_parts(total: int, parts: int) -> list[slice]:
    """``range(total)`` cut in ``parts`` slices whose lengths differ by one at most."""
    ends = [total * part // parts for part in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]
