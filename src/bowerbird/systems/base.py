"""What a system is: one call that converts, and training stages that one loop can train.

A system's package holds a `System` under the name ``SYSTEM`` (module ``system``) and, where it learns something, one
`TrainingStage` per stage under ``STAGES = {"vocoder": VocoderTraining}`` (module ``training``). The loop in
`bowerbird.stages.training` and the stage `bowerbird.stages.conversion` know nothing else of them.

Letters: ``B`` batch, ``T`` frames of a crop, ``P`` frames of a prompt, ``N`` samples, ``D`` feature dimension, ``M`` mel bands,
``E`` dimension of a speaker embedding. A frame is 20 ms; frame i stands for samples 320 i to 320 (i + 1) of 16 kHz audio.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from bowerbird.artifacts.models import load_matching
from bowerbird.audio import FRAMES_PER_SECOND, HOP
from bowerbird.config.base import AdamWStage, GanStage, StageOptions
from bowerbird.config.systems.base import ExperimentBase
from bowerbird.encoders.checkpoint import model_folder
from bowerbird.errors import BowerbirdError

ExperimentT = TypeVar("ExperimentT", bound=ExperimentBase)
OptionsT = TypeVar("OptionsT", bound=StageOptions)


@dataclass(frozen=True)
class Utterance:
    """Speech as a system reads it."""

    utt_id: str
    wave: Tensor  # (N,) float32, 16 kHz
    features: Tensor | None = None  # (T, D) float32
    phones: Tensor | None = None  # (T, D) float32: phonetic features, where the system reads such
    keys: Tensor | None = None  # (T, K) float32: what frames are retrieved by, where it is not the features


@dataclass(frozen=True)
class Conversion:
    """The result of one conversion."""

    wave: Tensor  # (N,) float32, 16 kHz
    features: Tensor | None = None  # (T, D) float32: the converted features, where the system has such
    # seconds per step and other statistics, as JSON values; heard_s: how much of the references was used, if not all
    details: dict[str, Any] = field(default_factory=dict)


class System(ABC, Generic[ExperimentT]):
    """A voice conversion system, ready to convert."""

    @classmethod
    @abstractmethod
    def load(cls, experiment: ExperimentT, models: Mapping[str, Path], device: torch.device) -> Self:
        """The system of ``experiment`` with its model folders by role (``{"vocoder": folder}``), on ``device``."""

    @abstractmethod
    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` in the voice of ``references`` (one speaker). ``trial`` is the row of the trial list, if any."""


def check_models(models: Mapping[str, Path], roles: Sequence[str], system: str) -> None:
    """Raises an error that names the first of ``roles`` without a model; ``system`` is the name that the error uses."""
    for role in roles:
        if role not in models:
            raise BowerbirdError(f"--models: {system} needs {role}=FOLDER")


def features_of(utterance: Utterance, system: str) -> Tensor:
    """Features ``(T, D)`` float32 of an utterance; an error, which names ``system``, where it has none or no frame."""
    return _frames_of(utterance.features, "features", utterance, system)


def phones_of(utterance: Utterance, system: str) -> Tensor:
    """Phonetic features ``(T, D)`` float32 of an utterance, as `features_of`."""
    return _frames_of(utterance.phones, "phones", utterance, system)


def _frames_of(rows: Tensor | None, role: str, utterance: Utterance, system: str) -> Tensor:
    if rows is None:
        raise BowerbirdError(f"{utterance.utt_id}: has no {role}; {system} needs them")
    if not len(rows):
        raise BowerbirdError(f"{utterance.utt_id}: too short for one frame of {role} (25 ms); give longer speech")
    return rows.float()


# What a batch can hold, by role. Validation has one whole utterance instead of crops.
ROLES: Mapping[str, str] = {
    "features": "(B, T, D) float32: the crop",
    "frames": "(B,) int64: how many frames of the crop are speech; the rest is zero-padded. Declared by stages that mask it",
    "audio": "(B, 320 T) float32 in [-1, 1]: its waveform; with transcripts (B, N), whole utterances, zero-padded",
    "retrieved": "(B, T, D) float32: the mean of the retrieved neighbors of each frame",
    "mels": "(B, R T, M) float32: log-mel frames of the crop, R per frame of features",
    "phones": "(B, T, D) float32: phonetic features of the crop",
    "world": "(B, T, 252) float32: WORLD's parameters of the crop, as `bowerbird.nn.world` has them",
    "speaker": "(B,) int64: position in `StageInputs.speakers`; -1 of a speaker outside the training split",
    "speaker_embedding": "(B, E) float32: of the utterance that the prompt is cut from; without prompts, of the item's own",
    "prompt": "(B, P, D) float32: other speech of the same speaker, zero-padded",
    "prompt_frames": "(B,) int64: how many frames of the prompt are speech",
    "prompt_audio": "(B, 320 P) float32 in [-1, 1]: the prompt's waveform, zero-padded",
    "prompt_mels": "(B, R P, M) float32: the prompt's log-mel frames, zero-padded",
    "uniform": "(B,) in [0, 1): a random number for a choice of the stage's own; absent in validation",
    "samples": "(B,) int64: how many samples of `audio` are no padding, where utterances are whole",
    "symbols": "(B, longest) int64: the transcript, symbols numbered from 1, zero-padded",
    "symbol_counts": "(B,) int64: how many symbols each transcript has",
}


@dataclass(frozen=True)
class BatchSpec:
    """What the batches of a stage hold; nothing else is read from disk."""

    roles: frozenset[str]  # of `ROLES`
    segment_frames: int  # length of a training crop
    least_frames: int = (
        0  # shortest utterance to train on, padded to a crop (needs the role "frames"); 0: segment_frames
    )
    optional: frozenset[str] = frozenset()  # further roles, which are there if their shards are given
    prompt_frames: tuple[int, int] | None = None  # shortest and longest prompt; lengths are uniform
    same_speaker_pairs: bool = False  # whether `retrieved` must come from the item's own speaker
    transcripts: str = ""  # whole utterances with their transcripts, as "characters" or "words"; without features
    longest_s: float = 0.0  # longest of such utterances
    moments: frozenset[str] = frozenset()  # roles whose mean and deviation the stage is built with

    def __post_init__(self) -> None:
        _check_roles(self.roles | self.optional)
        if self.least_frames and "frames" not in self.roles:
            raise ValueError(
                "batch: least_frames: padded crops need the role 'frames', so that the stage can mask them"
            )

    @property
    def shortest(self) -> int:
        """Frames of the shortest utterance to train on."""
        return self.least_frames or self.segment_frames

    def __contains__(self, role: str) -> bool:
        """Whether the batches hold ``role``, or may hold it."""
        return role in self.roles or role in self.optional


def prompt_range(shortest_s: float, longest_s: float) -> tuple[int, int]:
    """Shortest and longest prompt in frames."""
    return round(shortest_s * FRAMES_PER_SECOND), round(longest_s * FRAMES_PER_SECOND)


def _check_roles(roles: frozenset[str]) -> None:
    if unknown := sorted(roles - ROLES.keys()):
        raise ValueError(f"batch: {', '.join(unknown)}: no role of a batch; known: {', '.join(ROLES)}")


@dataclass(frozen=True, eq=False)
class Batch:
    """Crops of several utterances (training), or one whole utterance (validation): ``batch.audio`` is the tensor of a role.

    A role that the stage's `BatchSpec` does not declare is an AttributeError. `get` is for roles that may be absent.
    """

    utt_ids: tuple[str, ...]
    tensors: Mapping[str, Tensor]  # by role, as `ROLES` describes them

    def __post_init__(self) -> None:
        _check_roles(frozenset(self.tensors))

    def __getattr__(self, role: str) -> Tensor:
        """The tensor of ``role``."""
        tensors = self.__dict__.get("tensors", {})  # not there yet while a batch is unpickled
        if role in tensors:
            return tensors[role]
        raise AttributeError(
            f"batch: no {role!r}: not declared in the stage's BatchSpec; it holds {', '.join(tensors)}"
        )

    def get(self, role: str) -> Tensor | None:
        """The tensor of ``role``, None where it is absent."""
        return self.tensors.get(role)

    def to(self, device: torch.device) -> Batch:
        """The same batch with every tensor on ``device``."""
        return Batch(self.utt_ids, {role: t.to(device, non_blocking=True) for role, t in self.tensors.items()})

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the items, as a batch."""
        return Batch(self.utt_ids[rows], {role: tensor[rows] for role, tensor in self.tensors.items()})

    def __len__(self) -> int:
        return len(self.utt_ids)


def crop_in_context(batch: Batch, features: Tensor, frames: int) -> Batch:
    """Features and audio of ``batch``, each item a crop of ``frames`` frames at a place that its ``uniform`` chooses.

    ``features`` ``(B, C, D)`` stand in the place of the batch's own: a network made them from C frames, more than the next
    one learns on. Crops hold no padding. Validation, without ``uniform``, is not cropped.
    """
    uniform = batch.get("uniform")
    if uniform is None:
        return Batch(batch.utt_ids, {"features": features, "audio": batch.audio})
    speech = batch.get("frames")
    room = (features.shape[1] if speech is None else speech) - frames + 1
    starts = (uniform * room).long().tolist()
    crops = torch.stack([f[s : s + frames] for f, s in zip(features, starts, strict=True)])
    audio = torch.stack([a[HOP * s : HOP * (s + frames)] for a, s in zip(batch.audio, starts, strict=True)])
    return Batch(batch.utt_ids, {"features": crops, "audio": audio})


def prompt_waves(batch: Batch) -> list[Tensor]:
    """The waveform ``(N,)`` of each item's prompt, without padding."""
    return [wave[: HOP * int(frames)] for wave, frames in zip(batch.prompt_audio, batch.prompt_frames, strict=True)]


@dataclass(frozen=True)
class StageInputs:
    """What a training stage is built from, besides its options."""

    feature_dim: int
    features: Mapping[str, Any] = field(default_factory=dict)  # identity of the features: encoder, layer ...
    models: Mapping[str, Path] = field(default_factory=dict)  # model folders by role
    codebook: Path | None = None
    speakers: tuple[str, ...] = ()  # of the training split, in order
    symbols: tuple[str, ...] = ()  # of its transcripts, in order
    # by role (mels, phones, speaker_embeddings), for those that are given: "dim" and the identity of the features
    auxiliary: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # by role, for those that the `BatchSpec` names: mean and deviation ``(D,)`` over a sample of training frames
    moments: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class TrainingStage(ABC, Generic[OptionsT]):
    """One thing to train: its modules, its optimizers, and the losses of each update.

    A step of the loop goes through ``updates(step)`` in order. Each is named after the optimizer that it moves; for it
    the loop calls ``forward`` (once per step where it can), then ``losses``, differentiates the loss "total" with respect
    to that optimizer's parameters alone, and moves them. A plain model has one update; a GAN has two.

    Losses must be means over the items of the batch: then a step is the same whether its batch is taken whole, in
    micro-batches, or split over processes.
    """

    name: ClassVar[str]  # of the stage: the field of the experiment that holds its options
    modules: dict[str, nn.Module]  # every module with weights, frozen ones too
    # by the name of the update; a group's "rate" (1 where it has none) is a factor of its learning rate
    optimizers: dict[str, torch.optim.Optimizer]

    def __init__(self, options: OptionsT, inputs: StageInputs) -> None:
        """The stage with fresh weights (the caller has seeded torch), on the CPU; the loop moves its modules."""
        self.options, self.inputs = options, inputs

    @classmethod
    @abstractmethod
    def batch_spec(cls, options: OptionsT) -> BatchSpec:
        """What its batches hold."""

    @abstractmethod
    def updates(self, step: int) -> tuple[str, ...]:
        """Names of the optimizers that move at ``step`` (from 1), in order."""

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Learning rate at ``step``; it must not depend on the number of steps, so that training can go on."""

    @abstractmethod
    def forward(self, batch: Batch) -> Any:
        """What the updates of a step share, with its graph: the generated waves ``(B, 320 T)`` of a vocoder, for instance."""

    @abstractmethod
    def losses(self, update: str, batch: Batch, output: Any, step: int) -> dict[str, Tensor]:
        """Scalar losses of one update, by name; "total" is the one that is differentiated. ``output`` is `forward`'s."""

    @abstractmethod
    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Metrics of one whole utterance, and its audio ``(N,)`` where the stage makes audio. Runs under ``no_grad``."""

    @property
    @abstractmethod
    def exported(self) -> nn.Module:
        """The module whose weights are the result; averaged weights (EMA) are of this module."""

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """What is needed to build ``exported`` again, as JSON values: the content of ``config.json``."""

    @property
    def start_folder(self) -> Path | None:
        """The folder of the model that ``start_from`` names; None for fresh weights."""
        start = self.options.start_from
        return model_folder(start, f"{self.name}.start_from") if start else None

    def load_start(self, module: nn.Module, keys: Sequence[str]) -> None:
        """Load the weights of `start_folder`, if any, into ``module``; both must agree in ``keys`` of `architecture`."""
        if self.start_folder is not None:
            load_matching(module, self.start_folder, self.architecture(), keys, f"{self.name}.start_from")


def adamw(module: nn.Module, options: AdamWStage | GanStage) -> torch.optim.AdamW:
    """AdamW over a module's parameters as a stage's options say."""
    betas = (options.beta1, options.beta2)
    return torch.optim.AdamW(module.parameters(), options.learning_rate, betas, weight_decay=options.weight_decay)


def warmed_up_rate(options: AdamWStage, step: int) -> float:
    """`learning_rate` after a linear rise over `lr_warmup` steps, times `lr_decay` per `lr_decay_steps`."""
    rise = min(1.0, step / options.lr_warmup) if options.lr_warmup else 1.0
    return options.learning_rate * rise * options.lr_decay ** (step // options.lr_decay_steps)
