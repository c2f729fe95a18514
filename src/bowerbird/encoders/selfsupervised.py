"""WavLM, HuBERT and wav2vec 2.0 through `transformers`: any layer, and never a layer more than that.

Three traps are closed here. Layers above the wanted one are not loaded, let alone run. Padding never changes features:
front ends with group normalisation (base models) see one utterance at a time, the others are exact under padding, and
padded frames are zeroed before the positional convolution and masked in attention. And weights are never random: what
cannot be loaded is an error, and the log names the file that ran with its SHA-256.

A layer's output is the output of that transformer layer. Large models normalise once more after their last layer; that
belongs to no layer and is left out (as in the WavLM authors' ``extract_features`` and in ``hidden_states`` of
transformers 5; transformers 4 applied it to the last entry only).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from bowerbird.artifacts import BowerbirdError, file_sha256
from bowerbird.audio import SAMPLE_RATE
from bowerbird.config import PHONETIC, FeaturesConfig, bundled

from .spectral import SPECTRA, Definition, SpectralEncoder, load_spectral

if TYPE_CHECKING:
    from .phonetic import PhoneticModel

logger = logging.getLogger(__name__)
MODEL_TYPES = ("wavlm", "hubert", "wav2vec2")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
FLOAT16_MAX = float(np.finfo(np.float16).max)  # 65504


class SelfSupervisedEncoder(nn.Module):
    """The part of a self-supervised model below one layer's output.

    ``forward`` takes waves of any lengths and gives each one's features as if it had been alone.
    """

    def __init__(self, model: nn.Module, layer: int) -> None:
        super().__init__()
        self.model, self.layer = model, layer
        config = model.config
        self.dim: int = config.hidden_size
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.pads_exactly = config.feat_extract_norm == "layer"

    def num_frames(self, num_samples: int) -> int:
        """Frames the convolutions make of ``num_samples``; (n - 80) // 320 for the usual seven."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return max(num_samples, 0)

    @property
    def hop(self) -> int:
        """Samples between frames (320)."""
        return int(np.prod(self.strides))

    @property
    def receptive_field(self) -> int:
        """Samples a frame looks at (400)."""
        reach = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            reach = (reach - 1) * stride + kernel
        return reach

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(samples,)`` at 16 kHz to features ``(frames, dim)`` float32, one each."""
        frames = [self.num_frames(len(w)) for w in waves]
        local = self._front_end(waves)  # (batch, longest, channels)
        hidden = self.model.feature_projection(local)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # (batch, longest, dim)
        mask = None
        if min(frames) < max(frames):
            counts = torch.tensor(frames, device=hidden.device)
            mask = torch.arange(max(frames), device=hidden.device)[None] < counts[:, None]
        hidden = self.model.encoder(hidden, attention_mask=mask).last_hidden_state
        return [h[:count].float() for h, count in zip(hidden, frames, strict=True)]

    def _front_end(self, waves: Sequence[Tensor]) -> Tensor:
        """The convolutions. Group normalisation takes statistics over time, so there each wave goes alone."""
        if self.pads_exactly or len({len(w) for w in waves}) == 1:
            padded = nn.utils.rnn.pad_sequence(list(waves), batch_first=True)
            return self.model.feature_extractor(padded).transpose(1, 2)
        alone = [self.model.feature_extractor(w[None])[0].T for w in waves]
        return nn.utils.rnn.pad_sequence(alone, batch_first=True)


@dataclass(frozen=True)
class Window:
    """A stretch of one utterance that goes through the encoder in one piece."""

    utterance: int  # position in the list of waves
    start: int  # first sample, a multiple of the hop
    wave: Tensor  # (samples,)


class FeatureExtractor:
    """An encoder with the study's options: waves in, features of one layer out.

    An utterance is normalised (if asked) as a whole, then padded, then cut into overlapping windows if it is long.
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
        self.checkpoint: Checkpoint | Definition
        self.encoder: SelfSupervisedEncoder | SpectralEncoder | PhoneticModel
        if options.encoder in SPECTRA:
            self.checkpoint, self.encoder = Definition(options.encoder), load_spectral(options.encoder).to(self.device)
        elif options.encoder.startswith(PHONETIC):
            from .phonetic import load_phonetic  # it stands on this module

            self.checkpoint, model = load_phonetic(options, key)
            self.encoder = model.to(self.device)
        else:
            self.checkpoint = find_checkpoint(options.encoder, options.revision, key)
            self.encoder = load_encoder(self.checkpoint, options.layer, key).to(self.device)
        self.batch_s = 0.0 if self.device.type == "cpu" else batch_s  # no seconds: one window at a time

    @property
    def dim(self) -> int:
        return self.encoder.dim

    @property
    def weights(self) -> str:
        """SHA-256 of the weights that run."""
        return self.checkpoint.weights_sha256

    def describe(self) -> dict[str, Any]:
        """What runs, for reports and run records; holds no path."""
        return {
            "encoder": self.checkpoint.name,
            "revision": self.checkpoint.revision,
            "layer": self.options.layer,
            "weights_sha256": self.checkpoint.weights_sha256,
        }

    def identity_params(self) -> dict[str, Any]:
        """What determines the features: the options, with the model's content in place of its name."""
        options = self.options.model_dump(exclude={"encoder", "revision"})
        return {
            **options,
            "weights_sha256": self.checkpoint.weights_sha256,
            "config_sha256": self.checkpoint.config_sha256,
        }

    @property
    def margin(self) -> int:
        """Zeros added at each end: 0, or enough that frame i is centred on samples 320 i to 320 (i + 1)."""
        if self.options.padding != "centre" or self.options.encoder in SPECTRA:  # a spectrogram's frames are centred
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
        """Features ``(frames, dim)`` float32 of a wave ``(samples,)``, rounded to float16 as on disk."""
        return torch.from_numpy(self.extract_batch([torch.as_tensor(wave)])[0].astype(np.float32))

    def extract_batch(self, waves: Sequence[Tensor], names: Sequence[str] = ()) -> list[np.ndarray]:
        """Features float16 ``(frames, dim)`` of each wave ``(samples,)``; errors call them by ``names``."""
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
        """Zero mean and unit variance if asked; zeros at the ends as `padding` says, and up to one whole frame."""
        wave = wave.float()
        if self.options.normalize_input and len(wave):
            wave = (wave - wave.mean()) / torch.sqrt(wave.var(unbiased=False) + 1e-7)
        wave = F.pad(wave, (self.margin, self.margin))
        return F.pad(wave, (0, max(0, self.encoder.receptive_field - len(wave))))

    def _windows(self, utterance: int, wave: Tensor) -> Iterator[Window]:
        """The whole wave, or overlapping windows that start at multiples of the hop; the last one ends with the wave."""
        if not getattr(self.encoder, "windowed", True):
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
        """(first frame, features) of consecutive windows to features of the whole, seams in the middle of overlaps."""
        parts, begin = [], 0
        for number, (first, features) in enumerate(pieces):
            end = first + len(features)
            if number + 1 < len(pieces):
                end = (pieces[number + 1][0] + end) // 2
            parts.append(features[begin - first : end - first])
            begin = end
        return torch.cat(parts)

    def _encode(self, windows: Sequence[Window], names: Sequence[str]) -> list[Tensor]:
        """Features of each window, the longest first; a batch that does not fit the GPU is halved, for good."""
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
        with torch.inference_mode(), contextlib.ExitStack() as modes:
            if self.dtype != torch.float32:
                modes.enter_context(torch.autocast(self.device.type, self.dtype))
            elif self.device.type == "cuda":  # TF32 convolutions keep 10 bits: too few to agree with the CPU
                modes.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
            return self.encoder([w.to(self.device) for w in waves])


def to_float16(features: Tensor, name: str, key: str) -> np.ndarray:
    """float32 to float16; values that do not survive are an error that names the utterance, not an infinity."""
    array = features.numpy()
    if not np.isfinite(array).all():
        raise BowerbirdError(f"{name}: the encoder gave values that are not finite; check its audio, and {key}.encoder")
    if np.abs(array).max(initial=0.0) > FLOAT16_MAX:
        raise BowerbirdError(f"{name}: features beyond float16 ({FLOAT16_MAX:.0f}); choose another {key}.layer")
    return array.astype(np.float16)


def forward_dtype(precision: str, device: torch.device, key: str) -> torch.dtype:
    """The type of the forward pass; bfloat16 only where the hardware has it, never something slower in its place."""
    if precision == "float32":
        return torch.float32
    if device.type != "cuda" or not torch.cuda.is_bf16_supported(including_emulation=False):
        raise BowerbirdError(f"{key}.precision: bfloat16: needs a GPU that has it, this is {device}; use float32 here")
    return torch.bfloat16


# -------------------------------------------------------------------------------------------------------------- weights
@dataclass(frozen=True)
class Checkpoint:
    """The files of one model. It is loaded from ``folder``, so what is hashed is what runs."""

    name: str  # hub id, bundled:NAME, or the name of a local directory
    revision: str  # commit of a hub id, else ""
    folder: Path
    weights: tuple[Path, ...]

    @property
    def safetensors(self) -> bool:
        return self.weights[0].suffix == ".safetensors"

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file; of the list of hashes where there are several."""
        digests = [_sha256(path, path.stat().st_mtime_ns) for path in self.weights]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def config_sha256(self) -> str:
        return file_sha256(self.folder / "config.json")


@functools.cache
def _sha256(path: Path, modified: int) -> str:
    """Weights of a gigabyte take seconds to read: a file is hashed once, and again only after a change."""
    return file_sha256(path)


def find_checkpoint(spec: str, revision: str = "", key: str = "features") -> Checkpoint:
    """Find ``spec``: bundled:NAME, a local directory, or a hub id (in the cache, or downloaded)."""
    source = Path(bundled(spec)).expanduser()
    if source.is_dir():
        if not (source / "config.json").is_file():
            raise BowerbirdError(
                f"{key}.encoder: {spec}: no config.json in this directory; is it a transformers model?"
            )
        name = spec if spec.startswith("bundled:") else source.resolve().name
        return Checkpoint(name, "", source, weight_files(source, spec, key))
    if spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise BowerbirdError(f"{key}.encoder: {spec}: no such directory")
    if not revision:
        logger.warning("%s.encoder: %s without `revision`: the hub may change it; pin its commit", key, spec)
    folder = _snapshot(spec, revision, key)
    return Checkpoint(spec, folder.name, folder, weight_files(folder, spec, key))


def _snapshot(spec: str, revision: str, key: str) -> Path:
    """The folder of a hub id in the local cache with its config and weights, safetensors where it has them."""
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        config = Path(hf_hub_download(spec, "config.json", revision=revision or None))
        for patterns in (("model*.safetensors", "model.safetensors.index.json"), ("pytorch_model*.bin*",)):
            folder = Path(snapshot_download(spec, revision=config.parent.name, allow_patterns=list(patterns)))
            if any((folder / name).exists() for name in WEIGHTS):
                break
    except (OSError, ValueError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
        raise BowerbirdError(
            f"{key}.encoder: {spec}: no such directory here, nor in the hub's cache, and the hub did not give it"
            f"{offline}: {str(error).strip().splitlines()[0]}; give a directory with config.json and "
            "model.safetensors, or fetch it where there is a network"
        ) from None
    return folder


def weight_files(folder: Path, spec: str, key: str) -> tuple[Path, ...]:
    """The weights in ``folder``, safetensors before anything else; all of them where they are in several files."""
    for name in WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        parts = sorted(set(json.loads(path.read_text())["weight_map"].values())) if path.suffix == ".json" else [name]
        absent = [part for part in parts if not (folder / part).is_file()]
        if absent:
            raise BowerbirdError(f"{key}.encoder: {spec}: {name} names {absent[0]}, which is not there")
        return tuple(folder / part for part in parts)
    raise BowerbirdError(f"{key}.encoder: {spec}: no weights there; looked for {', '.join(WEIGHTS)}")


def load_encoder(checkpoint: Checkpoint, layer: int, key: str = "features") -> SelfSupervisedEncoder:
    """The model of ``checkpoint`` up to ``layer``, frozen, in float32. Every tensor it runs comes from the files."""
    import transformers
    from transformers import AutoConfig, AutoModel

    name = f"{key}.encoder: {checkpoint.name}"
    try:
        config = AutoConfig.from_pretrained(checkpoint.folder)
    except (OSError, ValueError, KeyError) as error:
        raise BowerbirdError(f"{name}: config.json is not a model's: {str(error).splitlines()[0]}") from None
    if config.model_type not in MODEL_TYPES:
        raise BowerbirdError(f"{name}: is a {config.model_type}; supported: {', '.join(MODEL_TYPES)}")
    total = config.num_hidden_layers
    if layer > total:
        raise BowerbirdError(f"{key}.layer: {layer}: {checkpoint.name} has layers 0 to {total}")
    config.num_hidden_layers, config.layerdrop, config.apply_spec_augment = layer, 0.0, False
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it would list every tensor of the layers left out
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, report = AutoModel.from_pretrained(
                checkpoint.folder,
                config=config,
                use_safetensors=checkpoint.safetensors,  # a .bin is read with weights_only
                output_loading_info=True,
                dtype=torch.float32,
            )
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BowerbirdError(f"{name}: {checkpoint.weights[0]} cannot be loaded ({reason})") from None
    finally:
        transformers.logging.set_verbosity(verbosity)
    missing = sorted(key for key in report["missing_keys"] if "masked_spec_embed" not in key)  # of training only
    if missing:
        raise BowerbirdError(f"{name}: weights lack {len(missing)} tensors, first {missing[0]}")
    if config.do_stable_layer_norm:
        model.encoder.layer_norm = nn.Identity()  # after the last layer: see the head of this file
    digest = checkpoint.weights_sha256
    logger.info("encoder: %s, layer %d of %d, weights %s", checkpoint.name, layer, total, checkpoint.weights[0])
    logger.info("encoder: sha256 of its weights %s", digest)
    # under a mask WavLM mixes a boolean with a float one; torch says that this will change, on every call
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    return SelfSupervisedEncoder(model.eval().requires_grad_(False), layer)
