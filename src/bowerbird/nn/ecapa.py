"""ECAPA-TDNN (Desplanques et al., Interspeech 2020), differentiable from the wave to the speaker embedding.

The sizes are those of speechbrain's published ``spkrec-ecapa-voxceleb``; :func:`from_speechbrain` renames its weights.
Waves of a batch are of equal length: nothing is masked.

Letters: ``B`` batch, ``N`` samples, ``T`` frames of 10 ms, ``M`` mel bands, ``C`` channels, ``E`` embedding dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.audio import SAMPLE_RATE

FBANK_WINDOW, FBANK_HOP = 400, 160  # samples: 25 ms every 10 ms
FLOOR, RANGE_DB = 1e-10, 80.0  # least power; and decibels kept below an utterance's loudest band
LEAST_VARIANCE = 1e-12  # below it a pooled deviation has no gradient


class Fbank(nn.Module):
    """Mel bands in dB, without each band's mean over time (section 3.2).

    As speechbrain computes them: triangles in linear frequency, both flanks as wide as the step from the center below;
    no band further than 80 dB under the loudest of its utterance; then each band's mean over time is taken off.
    """

    filters: Tensor  # (bins, M)
    window: Tensor  # (FBANK_WINDOW,)

    def __init__(self, bands: int = 80) -> None:
        super().__init__()
        mels = torch.linspace(0.0, 2595.0 * math.log10(1.0 + SAMPLE_RATE / 2 / 700.0), bands + 2)
        centers = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)  # Hz; the first and the last are the range's ends
        bins = torch.linspace(0.0, SAMPLE_RATE / 2.0, FBANK_WINDOW // 2 + 1)
        distance = (bins[:, None] - centers[1:-1]).abs() / centers.diff()[:-1]
        self.register_buffer("filters", (1.0 - distance).clamp_min(0.0), persistent=False)
        self.register_buffer("window", torch.hamming_window(FBANK_WINDOW), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Waves ``(B, N)`` at 16 kHz to mel bands ``(B, T, M)`` of ``T = N // 160 + 1`` frames."""
        with torch.autocast(wave.device.type, enabled=False):  # powers span more than half precision holds
            spectrum = torch.stft(
                wave.float(), FBANK_WINDOW, FBANK_HOP, window=self.window, pad_mode="constant", return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()  # (B, bins, T)
            decibels = 10.0 * (power.transpose(1, 2) @ self.filters).clamp_min(FLOOR).log10()
            decibels = torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - RANGE_DB)
            return decibels - decibels.mean(dim=1, keepdim=True)


class TdnnBlock(nn.Module):
    """Convolution, ReLU, batch norm; the edges are reflected, the length stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=padding, padding_mode="reflect")
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, inputs, T)`` to ``(B, outputs, T)``."""
        return self.norm(F.relu(self.conv(x)))


class Res2NetBlock(nn.Module):
    """One TDNN block per group of channels, which also reads the result of the group before; the first group passes."""

    def __init__(self, channels: int, scale: int, kernel: int, dilation: int) -> None:
        super().__init__()
        width = channels // scale
        self.blocks = nn.ModuleList(TdnnBlock(width, width, kernel, dilation) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to the same shape."""
        passed, first, *others = x.chunk(len(self.blocks) + 1, dim=1)
        done = [passed, self.blocks[0](first)]
        for block, group in zip(self.blocks[1:], others, strict=True):
            done.append(block(group + done[-1]))
        return torch.cat(done, dim=1)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from all channels' means over time (section 3.1)."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(channels, bottleneck, 1), nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to the same shape."""
        squeezed = F.relu(self.conv1(x.mean(dim=2, keepdim=True)))
        return x * self.conv2(squeezed).sigmoid()


class SeRes2Block(nn.Module):
    """Two pointwise TDNN blocks around a dilated Res2Net, squeeze-excitation, and a skip over all (section 3.1)."""

    def __init__(self, channels: int, kernel: int, dilation: int, scale: int, bottleneck: int) -> None:
        super().__init__()
        self.tdnn1 = TdnnBlock(channels, channels)
        self.res2net_block = Res2NetBlock(channels, scale, kernel, dilation)
        self.tdnn2 = TdnnBlock(channels, channels)
        self.se_block = SqueezeExcitation(channels, bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to the same shape."""
        return x + self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x))))


class AttentivePooling(nn.Module):
    """Weighted means and standard deviations over time (section 2.1, 3.1).

    Every channel has its own weights over time; they are computed from the frame and the utterance's own statistics.
    """

    def __init__(self, channels: int, attention: int) -> None:
        super().__init__()
        self.tdnn = TdnnBlock(3 * channels, attention)
        self.conv = nn.Conv1d(attention, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, C, T)`` to means and deviations ``(B, 2 C)``."""
        context = [s.unsqueeze(2).expand_as(x) for s in _statistics(x, torch.full_like(x[:1, :1], 1 / x.shape[2]))]
        scores = self.conv(self.tdnn(torch.cat([x, *context], dim=1)).tanh())
        return torch.cat(_statistics(x, scores.softmax(dim=2)), dim=1)


class EcapaTdnn(nn.Module):
    """Mel bands to speaker embeddings, not of unit length (figure 2).

    Utterances must have five frames at least, the reach of the widest reflected edge.
    """

    def __init__(
        self,
        bands: int = 80,
        channels: int = 1024,
        kernels: Sequence[int] = (5, 3, 3, 3),
        dilations: Sequence[int] = (1, 2, 3, 4),
        aggregated: int = 3072,
        attention: int = 128,
        scale: int = 8,
        bottleneck: int = 128,
        embedding: int = 192,
    ) -> None:
        super().__init__()
        self.fbank = Fbank(bands)
        self.blocks = nn.ModuleList([TdnnBlock(bands, channels, kernels[0], dilations[0])])
        for kernel, dilation in zip(kernels[1:], dilations[1:], strict=True):
            self.blocks.append(SeRes2Block(channels, kernel, dilation, scale, bottleneck))
        self.mfa = TdnnBlock((len(kernels) - 1) * channels, aggregated)
        self.asp = AttentivePooling(aggregated, attention)
        self.asp_bn = nn.BatchNorm1d(2 * aggregated)
        self.fc = nn.Conv1d(2 * aggregated, embedding, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Mel bands ``(B, T, M)`` to embeddings ``(B, E)`` and the hidden maps ``(B, C, T)`` before them.

        The maps are those after the TDNN block, after each SE-Res2 block (1024 channels) and after their aggregation
        (3072; section 3.3).
        """
        x, hidden = features.transpose(1, 2), []
        for block in self.blocks:
            x = block(x)
            hidden.append(x)
        hidden.append(self.mfa(torch.cat(hidden[1:], dim=1)))
        pooled = self.asp_bn(self.asp(hidden[-1]))
        return self.fc(pooled.unsqueeze(2)).squeeze(2), hidden

    def embed_with_maps(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Waves ``(B, N)`` at 16 kHz to embeddings ``(B, E)`` and the hidden maps ``(B, C, T)`` of `forward`.

        Differentiable in the wave.
        """
        return self(self.fbank(wave))


def from_speechbrain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of `EcapaTdnn`: speechbrain wraps each layer, its ``fc.conv.weight`` is ``fc.weight``."""
    renamed = {}
    for name, tensor in state.items():
        *layer, _, kind = name.split(".")
        renamed[".".join([*layer, kind])] = tensor
    return renamed


def _statistics(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(B, C)`` over time of ``x (B, C, T)``; the weights sum to one over time."""
    mean = (weights * x).sum(dim=2)
    variance = (weights * (x - mean.unsqueeze(2)).square()).sum(dim=2)
    return mean, variance.clamp_min(LEAST_VARIANCE).sqrt()
