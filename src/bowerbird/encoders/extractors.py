"""Extractors: a variant of `features` as an object that makes features of waves.

Every kind of encoder is used alike: `FeatureExtractor` for self-supervised, spectral and phonetic ones, which give frames,
`SpeakerEmbeddingExtractor` for speaker encoders, which give one row per utterance; `open_extractor` chooses.

Shapes: ``N`` samples, ``T`` frames, ``D`` feature dimension, ``P`` phones.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bowerbird.audio import SAMPLE_RATE
from bowerbird.config.sections.features import GE2E, FeaturesConfig
from bowerbird.encoders.checkpoint import TRANSFORMERS, Checkpoint, find_checkpoint
from bowerbird.encoders.definition import Definition
from bowerbird.encoders.phone_head import PhoneReader
from bowerbird.encoders.phonetic import find_phonetic, load_phonetic
from bowerbird.encoders.phonetic_base import PhoneticModel
from bowerbird.encoders.selfsupervised import SelfSupervisedEncoder, load_encoder
from bowerbird.encoders.speaker import load_speaker_encoder
from bowerbird.encoders.spectral import SpectralEncoder, load_spectral, spectrum_definition
from bowerbird.encoders.world import DEFINITION as WORLD_DEFINITION
from bowerbird.encoders.world import WorldEncoder
from bowerbird.errors import BowerbirdError

logger = logging.getLogger(__name__)

FLOAT16_MAX = float(np.finfo(np.float16).max)  # 65504


@dataclass(frozen=True)
class Window:
    """A stretch of one utterance that goes through the encoder in one piece."""

    utterance: int  # position in the list of waves
    start: int  # first sample, a multiple of the hop
    wave: Tensor  # (N,)


class FeatureExtractor:
    """An encoder with the study's options: waves in, features of one layer out.

    An utterance is normalized (if asked) as a whole, then padded, then cut into overlapping windows if it is long.
    An utterance shorter than the encoder's receptive field is padded with zeros to it and gives one frame.
    On a GPU windows of similar length go through together, at most ``batch_s`` seconds with their padding, less after
    the GPU ran out of memory. On the CPU they go through one by one: batches bring nothing there, and so each
    utterance's features depend on nothing else.

    ``key`` is what errors call the options: ``features.NAME`` in a study.
    """

    def __init__(
        self,
        options: FeaturesConfig,
        device: str | torch.device = "cpu",
        key: str = "features",
        batch_s: float = 60.0,
    ) -> None:
        self.options, self.device, self.key = options, torch.device(device), key
        self.dtype = forward_dtype(options.precision, self.device, key)
        self.checkpoint, self.encoder = _load_encoder(options, key)
        self.encoder.to(self.device)
        self.batch_s = 0.0 if self.device.type == "cpu" else batch_s  # no seconds: one window at a time

    @property
    def dim(self) -> int:
        """Dimensions of a frame."""
        return self.encoder.dim

    def describe(self) -> dict[str, Any]:
        """Name, revision, layer and weights' SHA-256 of the encoder, for reports and run records; no path."""
        return {
            "encoder": self.checkpoint.name,
            "revision": self.checkpoint.revision,
            "layer": self.options.layer,
            **({"layers": self.options.layers} if self.options.layers else {}),
            "weights_sha256": self.checkpoint.weights_sha256,
        }

    def identity_params(self) -> dict[str, Any]:
        """The parameters that determine the features: the options, with digests of the model in place of its name."""
        options = self.options.model_dump(exclude={"encoder", "revision"})
        return {
            **options,
            "weights_sha256": self.checkpoint.weights_sha256,
            "config_sha256": self.checkpoint.config_sha256,
        }

    @property
    def margin(self) -> int:
        """Zeros added at each end: 0, or enough that frame i is centered on samples 320 i to 320 (i + 1)."""
        if self.options.padding != "center" or self.options.kind == "spectrogram":  # whose frames are centered
            return 0
        return (self.encoder.receptive_field - self.encoder.hop) // 2

    @property
    def shortest(self) -> int:
        """Samples of the shortest utterance that fills a frame by itself; shorter ones are padded to one."""
        return self.encoder.receptive_field - 2 * self.margin

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance of ``num_samples``, at least one."""
        return max(1, self.encoder.num_frames(num_samples + 2 * self.margin))

    def extract(self, wave: np.ndarray | Tensor) -> Tensor:
        """Features ``(T, D)`` float32 of a wave ``(N,)`` at 16 kHz, rounded to float16 as on disk."""
        return torch.from_numpy(self.extract_batch([torch.as_tensor(wave)])[0].astype(np.float32))

    def extract_batch(self, waves: Sequence[Tensor], names: Sequence[str] = ()) -> list[np.ndarray]:
        """Features ``(T, D)`` float16 of each wave ``(N,)`` at 16 kHz; errors call the waves by ``names``."""
        names = names or [f"wave {number}" for number in range(len(waves))]
        windows = [w for number, wave in enumerate(waves) for w in self._windows(number, self._prepare(wave))]
        pieces = zip(windows, self._encode(windows, names), strict=True)
        results = []
        for number, group in itertools.groupby(pieces, key=lambda piece: piece[0].utterance):
            features = self._join([(window.start // self.encoder.hop, frames) for window, frames in group])
            expected = self.num_frames(len(waves[number]))
            if len(features) != expected:
                raise BowerbirdError(
                    f"{names[number]}: {len(features)} frames of {len(waves[number])} samples, expected {expected}"
                )
            results.append(to_float16(features, names[number], self.key))
        return results

    def _prepare(self, wave: Tensor) -> Tensor:
        """A wave ``(N,)`` of zero mean and unit variance if asked, with zeros at the ends as `padding` says.

        It is padded to one whole frame at least.
        """
        wave = wave.float()
        if self.options.normalize_input and len(wave):
            wave = (wave - wave.mean()) / torch.sqrt(wave.var(unbiased=False) + 1e-7)
        wave = F.pad(wave, (self.margin, self.margin))
        return F.pad(wave, (0, max(0, self.encoder.receptive_field - len(wave))))

    def _windows(self, utterance: int, wave: Tensor) -> Iterator[Window]:
        """A whole wave ``(N,)``, or overlapping windows that start at multiples of the hop; the last one ends with it."""
        if not self.encoder.is_windowed:
            yield Window(utterance, 0, wave)
            return
        hop, reach = self.encoder.hop, self.encoder.receptive_field
        frames = int(self.options.max_window_s * SAMPLE_RATE) // hop
        longest = (frames - 1) * hop + reach
        starts = [0]
        if len(wave) > longest:
            advance = (frames - int(self.options.overlap_s * SAMPLE_RATE) // hop) * hop
            last = -(-(len(wave) - longest) // hop) * hop
            starts = [*range(0, last, advance), last]
        for start in starts:
            yield Window(utterance, start, wave[start : start + longest])

    @staticmethod
    def _join(pieces: list[tuple[int, Tensor]]) -> Tensor:
        """Features ``(T, D)`` of the whole, from (first frame, features) of consecutive windows.

        Two windows meet in the middle of their overlap:

            window 1   |-----------------|
            window 2              |-----------------|
            taken      111111111111111222222222222222
        """
        parts, begin = [], 0
        for number, (first, features) in enumerate(pieces):
            end = first + len(features)
            if number + 1 < len(pieces):
                end = (pieces[number + 1][0] + end) // 2
            parts.append(features[begin - first : end - first])
            begin = end
        return torch.cat(parts)

    def _encode(self, windows: Sequence[Window], names: Sequence[str]) -> list[Tensor]:
        """Features ``(T, D)`` of each window. The longest go first; a batch that does not fit the GPU is halved, for good."""
        results: list[Tensor] = [torch.empty(0)] * len(windows)
        queue = sorted(range(len(windows)), key=lambda i: -len(windows[i].wave))
        while queue:
            seconds = len(windows[queue[0]].wave) / SAMPLE_RATE  # the first is the longest: the others are padded to it
            batch = queue[: max(1, int(self.batch_s / seconds))]
            try:
                outputs = self._forward([windows[i].wave for i in batch])
            except torch.cuda.OutOfMemoryError:
                outputs = None  # what the failed call held is only free outside this block
            if outputs is not None:
                for i, output in zip(batch, outputs, strict=True):
                    results[i] = output.cpu()
                queue = queue[len(batch) :]
                continue
            torch.cuda.empty_cache()
            if len(batch) == 1:
                raise BowerbirdError(
                    f"{names[windows[batch[0]].utterance]}: out of GPU memory on {seconds:.1f} s of speech; lower "
                    f"{self.key}.max_window_s (now {self.options.max_window_s})"
                )
            self.batch_s = seconds * (len(batch) // 2)
            logger.warning("out of GPU memory on %d windows: batches of %.0f s from here on", len(batch), self.batch_s)
        return results

    def _forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Features ``(T, D)`` float32 of each wave ``(N,)``, in the precision that the options ask for."""
        with torch.inference_mode(), contextlib.ExitStack() as modes:
            if self.dtype != torch.float32:
                modes.enter_context(torch.autocast(self.device.type, self.dtype))
            elif self.device.type == "cuda":  # TF32 convolutions keep 10 bits: too few to agree with the CPU
                modes.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
            return self.encoder([w.to(self.device) for w in waves])


def _load_encoder(
    options: FeaturesConfig, key: str
) -> tuple[Checkpoint | Definition, SelfSupervisedEncoder | SpectralEncoder | WorldEncoder | PhoneticModel]:
    """The encoder of a kind that gives frames, and what its weights are."""
    if options.kind == "spectrogram":
        return spectrum_definition(options.encoder), load_spectral(options.encoder)
    if options.kind == "world":
        return WORLD_DEFINITION, WorldEncoder()
    if options.kind == "phonetic":
        return load_phonetic(options, key)
    checkpoint = find_checkpoint(options.model() or options.encoder, f"{key}.encoder", TRANSFORMERS)
    return checkpoint, load_encoder(checkpoint, options.all_layers, key)


def to_float16(features: Tensor, name: str, key: str) -> np.ndarray:
    """Features ``(T, D)`` float32 as float16; values that it cannot hold are an error that names the utterance."""
    array = features.numpy()
    if not np.isfinite(array).all():
        raise BowerbirdError(f"{name}: the encoder gave values that are not finite; check its audio, and {key}.encoder")
    if np.abs(array).max(initial=0.0) > FLOAT16_MAX:
        raise BowerbirdError(f"{name}: features beyond float16 ({FLOAT16_MAX:.0f}); choose another {key}.layer")
    return array.astype(np.float16)


def forward_dtype(precision: str, device: torch.device, key: str) -> torch.dtype:
    """The type of the forward pass; bfloat16 where the hardware has it, otherwise an error, not a slower emulation."""
    if precision == "float32":
        return torch.float32
    if device.type != "cuda" or not torch.cuda.is_bf16_supported(including_emulation=False):
        raise BowerbirdError(f"{key}.precision: bfloat16: needs a GPU that has it, this is {device}; use float32 here")
    return torch.bfloat16


class SpeakerEmbeddingExtractor:
    """A speaker encoder as features: one row per utterance, of its first `max_window_s` seconds."""

    shortest = 1

    def __init__(self, options: FeaturesConfig, device: str | torch.device = "cpu", key: str = "features") -> None:
        self.options, self.device, self.key = options, torch.device(device), key
        self.encoder = load_speaker_encoder(options.model() or GE2E, f"{key}.encoder")
        self.encoder.model.to(self.device)

    @property
    def dim(self) -> int:
        """Dimensions of an embedding."""
        return self.encoder.dim

    def describe(self) -> dict[str, Any]:
        """Name and weights' SHA-256 of the encoder, for reports and run records."""
        identity = self.encoder.identity
        return {
            "encoder": identity.model,
            "revision": "",
            "layer": 0,
            "weights_sha256": identity.weights_sha256,
        }

    def identity_params(self) -> dict[str, Any]:
        """The parameters that determine an embedding: the options, with a digest of the model in place of its name."""
        options = self.options.model_dump(exclude={"encoder", "revision"})
        return {**options, "weights_sha256": self.encoder.identity.weights_sha256}

    def extract(self, wave: np.ndarray | Tensor) -> Tensor:
        """The embedding ``(1, D)`` float32 of a wave ``(N,)`` at 16 kHz, rounded to float16 as on disk."""
        return torch.from_numpy(self.extract_batch([torch.as_tensor(wave)])[0].astype(np.float32))

    def extract_batch(self, waves: Sequence[Tensor], names: Sequence[str] = ()) -> list[np.ndarray]:
        """The embedding ``(1, D)`` float16 of each wave ``(N,)`` at 16 kHz; errors call the waves by ``names``."""
        names = names or [f"wave {number}" for number in range(len(waves))]
        embeddings = []
        for name, wave in zip(names, waves, strict=True):
            if not len(wave):
                raise BowerbirdError(f"{name}: a wave without samples cannot be embedded")
            beginning = wave[: int(self.options.max_window_s * SAMPLE_RATE)]
            embeddings.append(to_float16(torch.from_numpy(self.encoder.embed([beginning])), name, self.key))
        return embeddings


Extractor = FeatureExtractor | SpeakerEmbeddingExtractor


def open_extractor(
    options: FeaturesConfig, device: str | torch.device = "cpu", key: str = "features", batch_s: float = 60.0
) -> Extractor:
    """The extractor of a variant of `features`; see `FeatureExtractor` for ``key`` and ``batch_s``."""
    if options.kind == "speaker":
        return SpeakerEmbeddingExtractor(options, device, key)
    return FeatureExtractor(options, device, key, batch_s)


def current_weights(options: FeaturesConfig) -> str:
    """SHA-256 of the weights that ``options`` name now, as features record it; "" of a model of a hub, which is not asked."""
    reference = options.model()
    if reference is not None and reference.kind == "hub":
        return ""
    if options.kind == "spectrogram":
        return spectrum_definition(options.encoder).weights_sha256
    if options.kind == "world":
        return WORLD_DEFINITION.weights_sha256
    if options.kind == "speaker":
        return load_speaker_encoder(options.encoder).identity.weights_sha256
    if options.kind == "phonetic":
        return find_phonetic(options)[0].weights_sha256
    return find_checkpoint(reference or options.encoder, "features.encoder", TRANSFORMERS).weights_sha256


class PhoneticEncoder:
    """A phone head and the encoder below it: waves in, phone posteriors at 50 frames per second out."""

    def __init__(self, spec: str = "bundled:nano-phones", device: str | torch.device = "cpu") -> None:
        self.reader = PhoneReader.load(spec)
        self.extractor = FeatureExtractor(self.reader.below, device, key=spec)
        self.reader.check_dim(self.extractor.dim)

    @property
    def phones(self) -> tuple[str, ...]:
        """The phones that the columns of the posteriors stand for, in order."""
        return self.reader.phones

    def posteriors(self, wave: np.ndarray | Tensor) -> Tensor:
        """Probabilities ``(T, P)`` float32 of a wave ``(N,)`` at 16 kHz; each row sums to 1."""
        return self.reader.posteriors(self.extractor.extract(wave))

    def from_features(self, features: Tensor) -> Tensor:
        """Probabilities ``(T, P)`` of features ``(T, D)`` of this encoder's own layer."""
        return self.reader.posteriors(features)

    def describe(self) -> dict[str, Any]:
        """The head and the encoder below it, each with the SHA-256 of its weights."""
        return {**self.reader.describe(), "below": self.extractor.describe()}
