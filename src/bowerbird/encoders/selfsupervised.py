"""WavLM, HuBERT and wav2vec 2.0 through `transformers`: any layer, and never a layer more than that.

Three traps are closed here. Layers above the wanted one are not loaded, let alone run. Padding never changes features:
front ends with group normalization (base models) see one utterance at a time, the others are exact under padding, and
padded frames are zeroed before the positional convolution and masked in attention. And weights are never random: what
cannot be loaded is an error, and the log names the file that ran with its SHA-256.

A layer's output is the output of that transformer layer. Large models normalize once more after their last layer; that
belongs to no layer and is left out (as in the WavLM authors' ``extract_features`` and in ``hidden_states`` of
transformers 5; transformers 4 applied it to the last entry only).

Shapes: ``B`` batch, ``N`` samples, ``T`` frames, ``C`` channels of the convolutions, ``D`` feature dimension.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.encoders.checkpoint import Checkpoint
from bowerbird.encoders.transformers_models import load_config, load_model
from bowerbird.errors import BowerbirdError

logger = logging.getLogger(__name__)

MODEL_TYPES = ("wavlm", "hubert", "wav2vec2")


class SelfSupervisedEncoder(nn.Module):
    """The part of a self-supervised model below one layer's output, or below the highest of several.

    ``forward`` takes waves of any lengths and gives each one's features as if it had been alone. The outputs of several layers
    are normalized one by one (mean 0, deviation 1 over the values of a frame), so that none outweighs the others, and joined.
    """

    model: Any  # of transformers, whose models have no type in common
    is_windowed = True  # long utterances may go through in windows that start at multiples of the hop

    def __init__(self, model: nn.Module, layers: Sequence[int]) -> None:
        super().__init__()
        self.model, self.layers = model, tuple(layers)
        config = self.model.config
        self.dim: int = config.hidden_size * len(self.layers)
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.pads_exactly = config.feat_extract_norm == "layer"

    def num_frames(self, num_samples: int) -> int:
        """Frames that the convolutions make of ``num_samples``; (n - 80) // 320 for the usual seven."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return max(num_samples, 0)

    @property
    def hop(self) -> int:
        """Samples between frames (320)."""
        return int(np.prod(self.strides))

    @property
    def receptive_field(self) -> int:
        """Samples that one frame depends on in the convolutions (400)."""
        reach = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            reach = (reach - 1) * stride + kernel
        return reach

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz to features ``(T, D)`` float32, one each."""
        frames = [self.num_frames(len(w)) for w in waves]
        local = self._front_end(waves)
        hidden = self.model.feature_projection(local)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # (B, T, D)
        mask = None
        if min(frames) < max(frames):
            counts = torch.tensor(frames, device=hidden.device)
            mask = torch.arange(max(frames), device=hidden.device)[None] < counts[:, None]
        several = len(self.layers) > 1
        output = self.model.encoder(hidden, attention_mask=mask, output_hidden_states=several)
        hidden = join([output.hidden_states[n] for n in self.layers]) if several else output.last_hidden_state
        return [h[:count].float() for h, count in zip(hidden, frames, strict=True)]

    def _front_end(self, waves: Sequence[Tensor]) -> Tensor:
        """The convolutions: waves ``(N,)`` to ``(B, T, C)``, T of the longest.

        Group normalization takes statistics over time, so there each wave goes through alone.
        """
        if self.pads_exactly or len({len(w) for w in waves}) == 1:
            padded = nn.utils.rnn.pad_sequence(list(waves), batch_first=True)
            return self.model.feature_extractor(padded).transpose(1, 2)
        alone = [self.model.feature_extractor(w[None])[0].T for w in waves]
        return nn.utils.rnn.pad_sequence(alone, batch_first=True)


def join(states: Sequence[Tensor]) -> Tensor:
    """States ``(..., W)`` of several layers, each normalized over its W values, as one ``(..., L W)``."""
    return torch.cat([F.layer_norm(state.float(), state.shape[-1:]) for state in states], dim=-1)


def load_encoder(checkpoint: Checkpoint, layers: Sequence[int], key: str = "features") -> SelfSupervisedEncoder:
    """The model of ``checkpoint`` up to the highest of ``layers``, which are given in order, frozen, in float32.

    ``key`` names the group of options in errors: ``features.NAME`` in a study.
    """
    from transformers import AutoModel

    where = f"{key}.encoder: {checkpoint.name}"
    config = load_config(checkpoint, where)
    if config.model_type not in MODEL_TYPES:
        raise BowerbirdError(f"{where}: is a {config.model_type}; supported: {', '.join(MODEL_TYPES)}")
    total, layer = config.num_hidden_layers, layers[-1]
    if layer > total:
        raise BowerbirdError(f"{key}.layer: {layer}: {checkpoint.name} has layers 0 to {total}")
    config.num_hidden_layers, config.layerdrop, config.apply_spec_augment = layer, 0.0, False
    model = load_model(AutoModel, checkpoint, where, config=config, dtype=torch.float32)
    if config.do_stable_layer_norm:
        model.encoder.layer_norm = nn.Identity()  # after the last layer: see the head of this file
    listed = ", ".join(map(str, layers))
    logger.info("encoder: %s, layer %s of %d, weights %s", checkpoint.name, listed, total, checkpoint.weights[0])
    logger.info("encoder: sha256 of its weights %s", checkpoint.weights_sha256)
    # under a mask WavLM mixes a boolean with a float one; torch says that this will change, on every call
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    return SelfSupervisedEncoder(model, layers)
