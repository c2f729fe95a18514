"""UTMOS22 strong from its published weights: estimated naturalness without a reference (Saeki et al. 2022).

The file is ``utmos22_strong_step7459_v1.pt`` of SpeechMOS's releases (weights of the UTMOS authors, MIT license): a table
of tensors, read with ``weights_only``. The network: wav2vec 2.0 base over the raw wave, two learned vectors (listening test,
listener) joined to every frame, a bidirectional LSTM, two linear layers, the mean over frames times 2 plus 3. As in that
file, the paper's phoneme encoder is left out. wav2vec 2.0 is that of ``transformers``; sizes are those of the weights.

Tested on randomly filled weights in the published layout against another implementation of wav2vec 2.0; the published
weights were not at hand.

Letters: ``N`` samples, ``T`` frames, ``D`` width of wav2vec 2.0.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.errors import BowerbirdError

STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of the convolutions
FEWEST_SAMPLES = 400  # samples that the convolutions need for one frame
WAV2VEC = "wav2vec2."  # begins the names of its weights
RENAMED = (  # published name -> that of transformers
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"feature_extractor\.conv_layers\.(\d+)\.2\.", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"layer_norm\.", "feature_projection.layer_norm."),
    (r"post_extract_proj\.", "feature_projection.projection."),
    (r"mask_emb", "masked_spec_embed"),
    (r"encoder\.pos_conv\.0\.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"encoder\.pos_conv\.0\.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"encoder\.pos_conv\.0\.bias", "encoder.pos_conv_embed.conv.bias"),
    (r"encoder\.layers\.(\d+)\.self_attn\.", r"encoder.layers.\1.attention."),
    (r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.", r"encoder.layers.\1.layer_norm."),
    (r"encoder\.layers\.(\d+)\.fc1\.", r"encoder.layers.\1.feed_forward.intermediate_dense."),
    (r"encoder\.layers\.(\d+)\.fc2\.", r"encoder.layers.\1.feed_forward.output_dense."),
)


class Utmos:
    """The network of one file; ``option`` names the key of the configuration in errors."""

    def __init__(self, path: Path, option: str) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a broken or foreign file raises
            raise BowerbirdError(f"{option}: {path}: cannot be read ({' '.join(str(error).split())[:160]})") from None
        try:
            self._build(state)
        except (KeyError, RuntimeError, ValueError, AttributeError, IndexError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise BowerbirdError(f"{option}: {path}: not the weights of UTMOS22 strong ({reason})") from None

    def _build(self, state: dict[str, Tensor]) -> None:
        """Builds the network in the sizes of the weights and fills it; random numbers are left as they were."""
        from transformers import Wav2Vec2Model

        inner = {key.removeprefix(WAV2VEC): value for key, value in state.items() if key.startswith(WAV2VEC)}
        with torch.random.fork_rng(devices=[]):
            self.encoder: nn.Module = Wav2Vec2Model(_configuration(inner))
            self.blstm = nn.LSTM(
                state["blstm.weight_ih_l0"].shape[1],
                state["blstm.weight_hh_l0"].shape[1],
                batch_first=True,
                bidirectional=True,
            )
            hidden, wide = state["projection.0.weight"].shape
            self.projection = nn.Sequential(nn.Linear(wide, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.encoder.load_state_dict({_renamed(key): value for key, value in inner.items()})
        for name, module in (("blstm.", self.blstm), ("projection.", self.projection)):
            module.load_state_dict({k.removeprefix(name): v for k, v in state.items() if k.startswith(name)})
        self.context = torch.cat([state["domain_emb"], state["judge_emb"]], dim=1).detach()  # (1, dim)
        for part in (self.encoder, self.blstm, self.projection):
            part.eval().requires_grad_(False)

    @torch.inference_mode()
    def score(self, wave: np.ndarray) -> float:
        """Estimated opinion (about 1 to 5) of a 16 kHz ``wave`` ``(N,)``; short speech is repeated."""
        if wave.size == 0:
            raise ValueError("no samples to score")
        samples = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
        samples = samples.repeat(math.ceil(FEWEST_SAMPLES / len(samples)))
        frames = self.encoder(samples[None]).last_hidden_state  # (1, T, D)
        context = self.context[:, None].expand(-1, frames.shape[1], -1)
        found = self.projection(self.blstm(torch.cat([frames, context], dim=2))[0])
        return float(found.double().mean() * 2 + 3)


def _configuration(inner: dict[str, Tensor]) -> Any:
    """The sizes of wav2vec 2.0 as its weights have them; heads are 64 wide, as in the base model."""
    from transformers import Wav2Vec2Config

    convolutions = [inner[f"feature_extractor.conv_layers.{n}.0.weight"] for n in range(len(STRIDES))]
    width, position = inner["post_extract_proj.weight"].shape[0], inner["encoder.pos_conv.0.weight_v"]
    return Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=1 + max(int(k.split(".")[2]) for k in inner if k.startswith("encoder.layers.")),
        num_attention_heads=width // 64,
        intermediate_size=inner["encoder.layers.0.fc1.weight"].shape[0],
        conv_dim=[weight.shape[0] for weight in convolutions],
        conv_kernel=[weight.shape[2] for weight in convolutions],
        conv_stride=STRIDES,
        num_conv_pos_embeddings=position.shape[2],
        num_conv_pos_embedding_groups=width // position.shape[1],
    )


def _renamed(key: str) -> str:
    for published, ours in RENAMED:
        if match := re.match(published, key):
            return match.expand(ours) + key[match.end() :]
    return key
