"""Whisper's encoder (Radford et al. 2022, section 2.2) on speech of any length, in step with the other encoders.

Whisper was trained on windows that silence fills up to 30 s, and its spectrogram is centered: state i stands for what lies
around sample 320 i. Here nothing is filled up and nothing is centered: a frame of the spectrogram begins at its first sample,
so that state i stands for what lies around sample 320 i + 200, as a frame of WavLM does, and n samples give (n - 80) // 320.

Names of the weights are those of `transformers`. Letters: ``B`` batch, ``N`` samples, ``S`` frames of the spectrogram (10 ms),
``T`` states (20 ms), ``M`` mel bands, ``W`` width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from bowerbird.audio import SAMPLE_RATE

N_FFT, HOP = 400, 160  # of the spectrogram
LONGEST = 1500  # states that there are positions for: 30 s


class WhisperMel(nn.Module):
    """Whisper's log-mel spectrogram, without padding: frame j stands for samples 160 j to 160 j + 400."""

    bank: Tensor  # (201, M)
    window: Tensor  # (400,)

    def __init__(self, bands: int = 80) -> None:
        super().__init__()
        bank = torchaudio.functional.melscale_fbanks(
            N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """A wave ``(N,)`` of 400 samples at least to ``(S, M)``: at most 80 dB below its loudest band, around 0."""
        spectrum = torch.stft(wave, N_FFT, HOP, N_FFT, self.window, center=False, return_complex=True)
        mel = (spectrum.abs().square().T @ self.bank).clamp_min(1.0e-10).log10()
        return (torch.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0


class WhisperAttention(nn.Module):
    """Multi-head self-attention over all frames; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(3))
        self.k_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, W)`` to ``(B, T, W)``."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class WhisperLayer(nn.Module):
    """Attention and a feed-forward network, each after a layer norm."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn_layer_norm, self.self_attn = nn.LayerNorm(width), WhisperAttention(width, heads)
        self.final_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, feedforward), nn.Linear(feedforward, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, W)`` to ``(B, T, W)``."""
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class WhisperEncoder(nn.Module):
    """Convolutions, positions, and the first ``layers`` layers; with all of them (``norm``), the last one's output is normalized.

    States are those of `transformers`: 0 is the input of the first layer, L the output of layer L, after the last norm where
    L is the last.
    """

    def __init__(self, bands: int, width: int, heads: int, feedforward: int, layers: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(bands, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(LONGEST, width)
        self.layers = nn.ModuleList(WhisperLayer(width, heads, feedforward) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, mels: Tensor, wanted: Sequence[int]) -> list[Tensor]:
        """Spectrograms ``(B, S, M)`` to the states ``(B, T, W)`` after each of the layers ``wanted``."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mels.transpose(1, 2))))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        states = {0: x}
        for number, layer in enumerate(self.layers, start=1):
            states[number] = x = layer(x)
        states[len(self.layers)] = self.layer_norm(x)
        return [states[number] for number in wanted]
