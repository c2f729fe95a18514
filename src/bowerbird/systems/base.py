"""What a system is: one call that converts, and training stages that one loop can train.

A paper's file in ``bowerbird.systems`` holds a `System` (what `convert()` does) and, where it learns something, one
`TrainingStage` per stage under ``STAGES = {"vocoder": VocoderTraining}``. The loop in ``bowerbird.training`` knows
nothing but these faces.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from bowerbird.audio import HOP

FRAME_SAMPLES = HOP  # samples of 16 kHz audio that one 20 ms frame of features stands for


@dataclass(frozen=True)
class Utterance:
    """Speech as a system hears it."""

    utt_id: str
    wave: Tensor  # (samples,) float32, 16 kHz
    features: Tensor | None = (
        None  # (frames, dim) float32, 50 frames a second; frame i stands for samples [320i, 320i+320)
    )
    phones: Tensor | None = None  # (frames, dim) float32: phonetic features, where the system reads such


@dataclass(frozen=True)
class Conversion:
    """What a system answers."""

    wave: Tensor  # (samples,) float32, 16 kHz
    features: Tensor | None = None  # (frames, dim) float32: the converted features, where the system has such
    details: dict[str, Any] = field(default_factory=dict)  # facts worth keeping (JSON values)


class System(ABC):
    """A voice conversion system, ready to convert."""

    @classmethod
    @abstractmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> Self:
        """The system of ``experiment`` with the model folders it names by role (``{"vocoder": folder}``)."""

    @abstractmethod
    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` in the voice of ``references`` (one speaker). ``trial`` is the row of the trial list, if any."""


@dataclass(frozen=True)
class DataNeeds:
    """What the batches of a stage hold. Features always; the rest where asked."""

    segment_frames: int  # length of a training crop, frames
    audio: bool = False  # the crop's waveform
    units: bool = False  # the code of each frame
    pairs: bool = False  # pairs must be given (where not, they may be)
    prompt_frames: tuple[int, int] | None = None  # other speech of the speaker, of a length drawn from this range
    same_speaker_pairs: bool = False  # pairs, where given, must be of one speaker
    speakers: bool = False  # whose speech it is, as a number
    mels: bool = False  # log-mel frames of the crop, and of the prompt where there is one
    transcripts: str = ""  # whole utterances with what is said, as "characters" or "words"; no features then
    longest_s: float = 0.0  # of such utterances


@dataclass(frozen=True)
class Batch:
    """Crops of several utterances (training), or one whole utterance (validation)."""

    utt_ids: tuple[str, ...]
    features: Tensor  # (batch, frames, dim) float32
    audio: Tensor | None = None  # (batch, 320 * frames) float32, in [-1, 1]
    retrieved: Tensor | None = (
        None  # (batch, frames, dim) float32: mean of each frame's retrieved neighbours, with pairs
    )
    units: Tensor | None = None  # (batch, frames) int64
    prompt: Tensor | None = None  # (batch, prompt, dim) float32: other speech of the same speaker, zero-padded
    prompt_frames: Tensor | None = None  # (batch,) int64: how much of it is speech
    prompt_audio: Tensor | None = None  # (batch, 320 * prompt) float32
    speaker: Tensor | None = None  # (batch,) int64: place in `StageInputs.speakers`; -1: not of the training split
    chance: Tensor | None = None  # (batch,) in [0, 1): for a choice of the stage's own; None in validation
    mels: Tensor | None = None  # (batch, frames, bands) float32
    phones: Tensor | None = None  # (batch, frames, dim) float32: phonetic features, where given
    prompt_mels: Tensor | None = None  # (batch, prompt, bands) float32, zero-padded
    voice: Tensor | None = (
        None  # (batch, dim) float32: voice print of the prompting utterance, or without prompts its own
    )
    samples: Tensor | None = None  # (batch,) int64: how much of `audio` there is, where utterances are whole
    symbols: Tensor | None = None  # (batch, longest) int64: what is said, from 1 on, zero-padded
    symbol_counts: Tensor | None = None  # (batch,) int64

    def to(self, device: torch.device) -> Batch:
        """The same batch with every tensor on ``device``."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device, non_blocking=True) for k, v in moved.items() if isinstance(v, Tensor)})

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the items, as a batch."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: None if value is None else value[rows] for name, value in values.items()})

    def __len__(self) -> int:
        return len(self.utt_ids)


@dataclass(frozen=True)
class StageInputs:
    """What a training stage is built from, besides its options."""

    feature_dim: int
    features: Mapping[str, Any] = field(default_factory=dict)  # identity of the features: encoder, layer ...
    models: Mapping[str, Path] = field(default_factory=dict)  # model folders by role
    codebook: Path | None = None
    speakers: tuple[str, ...] = ()  # of the training split, in order
    symbols: tuple[str, ...] = ()  # of its transcripts, in order
    others: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # facts on mels, phones, voices: {"dim": 80 ...}


class TrainingStage(ABC):
    """One thing to train: its modules, its optimizers, and the losses of each update.

    A step of the loop goes through ``updates(step)`` in order. Each is named after the optimizer that it moves; for it
    the loop calls ``forward`` (once a step where it can), then ``losses``, differentiates the loss "total" with respect
    to that optimizer's parameters alone, and moves them. A plain model has one update; a GAN has two.

    Losses must be means over the items of the batch: then a step is the same whether its batch is taken whole, in
    micro-batches, or split over processes.
    """

    modules: dict[str, nn.Module]  # every module with weights, frozen ones too
    optimizers: dict[
        str, torch.optim.Optimizer
    ]  # a group's "rate" (1 where it has none) is a factor of its learning rate

    @classmethod
    @abstractmethod
    def data_needs(cls, options: Any) -> DataNeeds:
        """What its batches must hold."""

    @classmethod
    @abstractmethod
    def build(cls, options: Any, inputs: StageInputs) -> Self:
        """The stage with fresh weights (the caller has seeded torch), on the CPU; the loop moves its modules."""

    @abstractmethod
    def updates(self, step: int) -> tuple[str, ...]:
        """Names of the optimizers that move at ``step`` (from 1), in order."""

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Learning rate at ``step``; it must not depend on the number of steps, so that training can go on."""

    @abstractmethod
    def forward(self, batch: Batch) -> Any:
        """What the updates of a step share (the generator's output), with its graph."""

    @abstractmethod
    def losses(self, update: str, batch: Batch, output: Any, step: int) -> dict[str, Tensor]:
        """Scalar losses of one update, by name; "total" is the one differentiated."""

    @abstractmethod
    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Metrics of one whole utterance, and its audio (samples,) where the stage makes audio. Under ``no_grad``."""

    @property
    @abstractmethod
    def exported(self) -> nn.Module:
        """The module whose weights are the result; averaged weights (EMA) are of this module."""

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """What is needed to build ``exported`` again, as JSON values: the content of ``config.json``."""


def adamw(module: nn.Module, options: Any) -> torch.optim.AdamW:
    """AdamW over a module's parameters as a stage's options say."""
    betas = (options.beta1, options.beta2)
    return torch.optim.AdamW(module.parameters(), options.learning_rate, betas, weight_decay=options.weight_decay)


def warmed_up_rate(options: Any, step: int) -> float:
    """`learning_rate` after a linear rise over `lr_warmup` steps, times `lr_decay` each `lr_decay_steps`."""
    rise = min(1.0, step / options.lr_warmup) if options.lr_warmup else 1.0
    return options.learning_rate * rise * options.lr_decay ** (step // options.lr_decay_steps)
