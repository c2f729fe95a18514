"""WavLM, HuBERT and wav2vec 2.0 through `transformers`: any layer, and never a layer more than that.

Three traps are closed here. Layers above the wanted one are not loaded, let alone run. Padding never changes features:
front ends with group normalisation (base models) see one utterance at a time, the others are exact under padding, and
padded frames are zeroed before the positional convolution and masked in attention. And weights are never random: what
cannot be loaded is an error, and the log names the file that ran with its SHA-256.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts import BowerbirdError, file_sha256
from bowerbird.config import FeaturesConfig, bundled

logger = logging.getLogger(__name__)
MODEL_TYPES = ("wavlm", "hubert", "wav2vec2")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class SelfSupervisedEncoder(nn.Module):
    """The part of a self-supervised model below one layer's output.

    ``forward`` takes waves of any lengths and gives each one's features as if it had been alone.
    """

    def __init__(self, model: nn.Module, layer: int, normalize_input: bool) -> None:
        super().__init__()
        self.model, self.layer, self.normalize_input = model, layer, normalize_input
        config = model.config
        self.dim: int = config.hidden_size
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.pads_exactly = config.feat_extract_norm == "layer"

    def num_frames(self, num_samples: int) -> int:
        """Frames the convolutions make of ``num_samples``."""
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
        if self.normalize_input:
            waves = [(w - w.mean()) / torch.sqrt(w.var(unbiased=False) + 1e-7) for w in waves]
        frames = [self.num_frames(len(w)) for w in waves]
        local = self._front_end(waves)  # (batch, longest, channels)
        hidden = self.model.feature_projection(local)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        mask = None
        if min(frames) < max(frames):
            mask = (
                torch.arange(max(frames), device=hidden.device)[None]
                < torch.tensor(frames, device=hidden.device)[:, None]
            )
        hidden = self.model.encoder(hidden, attention_mask=mask).last_hidden_state
        return [h[:count].float() for h, count in zip(hidden, frames, strict=True)]

    def _front_end(self, waves: Sequence[Tensor]) -> Tensor:
        """The convolutions. Group normalisation takes statistics over time, so there each wave goes alone."""
        if self.pads_exactly or len({len(w) for w in waves}) == 1:
            longest = max(map(len, waves))
            padded = torch.stack([F.pad(w, (0, longest - len(w))) for w in waves])
            return self.model.feature_extractor(padded).transpose(1, 2)
        alone = [self.model.feature_extractor(w[None])[0].T for w in waves]
        return nn.utils.rnn.pad_sequence(alone, batch_first=True)


class FeatureExtractor:
    """An encoder with the study's options: waves in, features of one layer out.

    Long utterances go through in overlapping windows joined at the middle of the overlap; on a GPU that runs out of
    memory a batch is halved until it fits.
    """

    def __init__(self, options: FeaturesConfig, device: str | torch.device = "cpu") -> None:
        self.options, self.device = options, torch.device(device)
        self.encoder, self.weights = load_encoder(
            options.encoder, options.revision, options.layer, options.normalize_input
        )
        self.encoder.to(self.device)
        self.dtype = _forward_dtype(options.precision, self.device)

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def describe(self) -> dict[str, Any]:
        """What ran, for identities and reports."""
        return {"encoder": self.options.encoder, "layer": self.options.layer, "weights_sha256": self.weights}

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance of ``num_samples``: at least one (shorter ones are padded to one window)."""
        margin = self._margin
        return max(1, self.encoder.num_frames(num_samples + 2 * margin))

    @property
    def _margin(self) -> int:
        """Zeros added at each end: 0, or half the overlap of frames, so that frame i is centred on its 20 ms."""
        return (self.encoder.receptive_field - self.encoder.hop) // 2 if self.options.padding == "centre" else 0

    def extract(self, wave: np.ndarray | Tensor) -> Tensor:
        """Features ``(frames, dim)`` float32 of a wave ``(samples,)``, rounded to float16 as on disk."""
        return torch.from_numpy(self.extract_batch([torch.as_tensor(wave)])[0].astype(np.float32))

    def extract_batch(self, waves: Sequence[Tensor]) -> list[np.ndarray]:
        """Features float16 ``(frames, dim)`` of each wave; a batch that does not fit the GPU is halved."""
        try:
            return self._extract(waves)
        except torch.cuda.OutOfMemoryError:
            if len(waves) == 1:
                seconds = len(waves[0]) / 16000
                raise BowerbirdError(
                    f"features: out of GPU memory on one utterance of {seconds:.0f} s; lower max_window_s "
                    f"(now {self.options.max_window_s} s)"
                ) from None
        torch.cuda.empty_cache()
        half = len(waves) // 2
        logger.warning("out of GPU memory: batch of %d utterances halved", len(waves))
        return self.extract_batch(waves[:half]) + self.extract_batch(waves[half:])

    def _extract(self, waves: Sequence[Tensor]) -> list[np.ndarray]:
        prepared = [self._prepare(w) for w in waves]
        spans = [self._windows(len(w)) for w in prepared]
        pieces = [w[a:b] for w, windows in zip(prepared, spans, strict=True) for a, b in windows]
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype != torch.float32),
        ):
            outputs = self.encoder([p.to(self.device) for p in pieces])
        results, taken = [], 0
        for wave, windows, raw in zip(prepared, spans, waves, strict=True):
            joined = self._join(outputs[taken : taken + len(windows)], windows)
            taken += len(windows)
            expected = self.num_frames(len(raw))
            if len(joined) != expected:
                raise BowerbirdError(f"features: {len(joined)} frames from {len(wave)} samples, expected {expected}")
            results.append(_to_float16(joined))
        return results

    def _prepare(self, wave: Tensor) -> Tensor:
        """Zeros at the ends as `padding` says, and up to one window where the wave is shorter."""
        wave = F.pad(wave.float(), (self._margin, self._margin))
        return F.pad(wave, (0, max(0, self.encoder.receptive_field - len(wave))))

    def _windows(self, num_samples: int) -> list[tuple[int, int]]:
        """Start and end of overlapping windows, aligned to frames; one window where the utterance is short enough."""
        hop, reach = self.encoder.hop, self.encoder.receptive_field
        longest = int(self.options.max_window_s * 16000) // hop * hop + reach - hop
        if num_samples <= longest:
            return [(0, num_samples)]
        advance = longest - int(self.options.overlap_s * 16000) // hop * hop - (reach - hop)
        starts = [*range(0, num_samples - longest, advance), (num_samples - longest + hop - 1) // hop * hop]
        return [(start, min(start + longest, num_samples)) for start in starts]

    def _join(self, pieces: list[Tensor], windows: list[tuple[int, int]]) -> Tensor:
        """Concatenate windows, each seam in the middle of the overlap."""
        if len(pieces) == 1:
            return pieces[0]
        hop, parts, begin = self.encoder.hop, [], 0
        for number, (piece, (start, _)) in enumerate(zip(pieces, windows, strict=True)):
            first = start // hop
            end = first + len(piece)
            if number + 1 < len(windows):
                end = (windows[number + 1][0] // hop + end) // 2
            parts.append(piece[begin - first : end - first])
            begin = end
        return torch.cat(parts)


def _to_float16(features: Tensor) -> np.ndarray:
    """float32 to float16 on the CPU; values that do not survive are an error, not an infinity."""
    array = features.float().cpu().numpy()
    if not np.isfinite(array).all():
        raise BowerbirdError("features: the encoder gave values that are not finite")
    if np.abs(array).max(initial=0.0) > np.finfo(np.float16).max:
        raise BowerbirdError("features: values beyond float16 (65504); this layer cannot be stored")
    return array.astype(np.float16)


def _forward_dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "float32":
        return torch.float32
    if device.type != "cuda" or not torch.cuda.is_bf16_supported():
        raise BowerbirdError("features.precision = 'bfloat16': needs a GPU that has it; use float32 here")
    return torch.bfloat16


def load_encoder(spec: str, revision: str, layer: int, normalize_input: bool) -> tuple[SelfSupervisedEncoder, str]:
    """Load ``spec`` (hub id, directory or bundled:NAME) up to ``layer``; returns it and its weights' SHA-256."""
    import transformers
    from transformers import AutoConfig, AutoModel

    transformers.logging.set_verbosity_error()  # it would list every tensor of the layers left out
    transformers.logging.disable_progress_bar()

    source = bundled(spec)
    local = Path(source).is_dir()
    if not local and not revision:
        logger.warning("features.encoder: %s without `revision`: the hub may change it under you; pin a commit", spec)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision or None)
    except (OSError, ValueError) as error:
        raise BowerbirdError(
            f"features.encoder: {spec}: no model there ({str(error).splitlines()[0]}); give a directory with "
            "config.json and model.safetensors, or a hub id that is in the cache or reachable"
        ) from None
    if config.model_type not in MODEL_TYPES:
        raise BowerbirdError(f"features.encoder: {spec}: is a {config.model_type}; supported: {', '.join(MODEL_TYPES)}")
    total = config.num_hidden_layers
    if layer > total:
        raise BowerbirdError(f"features.layer: {layer}: {spec} has layers 0 to {total}")
    if local and not any((Path(source) / name).exists() for name in WEIGHTS):
        raise BowerbirdError(f"features.encoder: {source}: no weights there; looked for {' and '.join(WEIGHTS)}")
    config.num_hidden_layers, config.layerdrop, config.apply_spec_augment = layer, 0.0, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, report = AutoModel.from_pretrained(
            source, config=config, revision=revision or None, output_loading_info=True, dtype=torch.float32
        )
    missing = [name for name in report["missing_keys"] if "masked_spec_embed" not in name]
    if missing:
        raise BowerbirdError(
            f"features.encoder: {spec}: weights lack {len(missing)} tensors, first {sorted(missing)[0]}"
        )
    if config.do_stable_layer_norm:  # large models normalise once more after the last layer: no layer's own output
        model.encoder.layer_norm = nn.Identity()
    digest = _weights_sha256(source, revision)
    logger.info("encoder: %s, layer %d of %d, weights sha256 %s", spec, layer, total, digest[:16])
    return SelfSupervisedEncoder(model.eval().requires_grad_(False), layer, normalize_input), digest


def _weights_sha256(source: str, revision: str) -> str:
    """SHA-256 of the weights file that ran."""
    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(source, revision=revision or None, allow_patterns=list(WEIGHTS)))
    for name in WEIGHTS:
        if (folder / name).exists():
            return file_sha256(folder / name)
    raise BowerbirdError(f"{source}: no weights file; looked for {' and '.join(WEIGHTS)}")
