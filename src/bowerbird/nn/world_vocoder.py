"""A vocoder of two parts: a small network from any features to WORLD's parameters, and WORLD (`bowerbird.nn.world`) behind it.

What is learned is a regression: no wave is generated in training, and there is no discriminator, so it takes minutes where a
generator of waves takes hours.

Letters: ``B`` batch, ``T`` frames, ``D`` feature dimension, ``C`` channels, ``N`` samples (320 T).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.audio import SAMPLE_RATE
from bowerbird.nn import world
from bowerbird.nn.sourcefilter import (
    FILTER_FFT,
    FILTER_HOP,
    cepstral_fold,
    filter_in_windows,
    minimum_phase,
    pulse_train,
)

BAND_HZ = 3000.0  # of the one aperiodicity that WORLD codes at 16 kHz
KERNEL = 5
HALF = KERNEL // 2


class WorldSynthesis(nn.Module):
    """WORLD alone: features that are its parameters to waves. It has no weights."""

    context_frames = 0
    decoding: Tensor  # (60, 513): coded envelopes to log power, which is linear
    window: Tensor  # (640,)
    fold: Tensor  # (1024,)
    hertz: Tensor  # (513,)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("decoding", torch.from_numpy(world.envelope_decoding()).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(4 * FILTER_HOP), persistent=False)
        self.register_buffer("fold", cepstral_fold(), persistent=False)
        self.register_buffer("hertz", torch.linspace(0, SAMPLE_RATE / 2, FILTER_FFT // 2 + 1), persistent=False)

    def encode(self, features: Tensor) -> Tensor:
        """Parameters ``(B, T, 252)`` as they are."""
        return features

    def synthesize(self, encoded: Tensor) -> Tensor:
        """Parameters ``(B, T, 252)`` to waves ``(B, N)``, one by one, on the CPU."""
        waves = [torch.from_numpy(world.synthesize(rows)) for rows in encoded.float().cpu().numpy()]
        return torch.stack(waves).to(encoded.device)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to waves ``(B, N)`` close to WORLD's, through which gradients flow back to envelopes and breath.

        For losses on waves: a pulse train and noise through filters of the envelope, ten milliseconds each.
        """
        with torch.autocast(features.device.type, enabled=False):
            return self.render(self.encode(features.float()))

    def render(self, parameters: Tensor) -> Tensor:
        """Parameters ``(B, T, 252)`` to waves ``(B, N)``; the noise is the same at every call in evaluation."""
        batch = len(parameters)
        voicing, pitch = (parameters[..., part].reshape(batch, -1) for part in (world.VOICING, world.PITCH))
        pulses = pulse_train(pitch.exp().clamp(30.0, 1000.0), (voicing > 0.5).float(), world.SUBHOP)
        generator = None if self.training else torch.Generator(pulses.device).manual_seed(0)
        noise = torch.randn(pulses.shape[-1], generator=generator, device=pulses.device).expand_as(pulses)
        # two subframes of 5 ms to a filter of 10 ms
        coded = parameters[..., world.ENVELOPE].reshape(batch, -1, 2, world.CODED).mean(dim=2)
        magnitude = 0.5 * coded @ self.decoding  # (B, 2 T, bins), of logarithms
        decibels = parameters[..., world.APERIODICITY].reshape(batch, -1, 2).mean(dim=2, keepdim=True).clamp(-60.0, 0.0)
        share = self._noise_share(decibels, voicing.reshape(batch, -1, 2).mean(dim=2, keepdim=True))
        sounds = []
        for source, part in ((pulses, 1 - share), (noise, share)):
            response = minimum_phase(magnitude + 0.5 * part.clamp_min(1.0e-6).log(), self.fold)
            sounds.append(filter_in_windows(source, response, self.window))
        return sounds[0] + sounds[1]

    def _noise_share(self, decibels: Tensor, voicing: Tensor) -> Tensor:
        """Share of noise in the power ``(B, F, bins)``, of aperiodicity at 3 kHz and voicing ``(B, F, 1)``.

        In decibels a line from -60 at 0 Hz over 3 kHz to 0 at 8 kHz, as WORLD decodes it; all of it where nothing is voiced.
        """
        low = -60.0 + (decibels + 60.0) * self.hertz / BAND_HZ
        high = decibels * (SAMPLE_RATE / 2 - self.hertz) / (SAMPLE_RATE / 2 - BAND_HZ)
        share = 10 ** (torch.where(self.hertz < BAND_HZ, low, high) / 10)
        return torch.where(voicing > 0.5, share, torch.ones_like(share))


class ResidualBlock(nn.Module):
    """Two convolutions, over time and over channels, each after a GELU; their sum with the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(channels, channels, KERNEL, padding=HALF)
        self.over_channels = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` to ``(B, C, T)``."""
        return x + self.over_channels(F.gelu(self.over_time(F.gelu(x))))


class WorldVocoder(WorldSynthesis):
    """Features to WORLD's parameters by convolutions, and to waves by WORLD.

    The network sees features, and gives parameters, of mean 0 and deviation 1; the moments of both are part of its weights.
    """

    mean: Tensor  # (D,) of the features
    deviation: Tensor  # (D,)
    target_mean: Tensor  # (252,) of the parameters
    target_deviation: Tensor  # (252,)

    def __init__(self, input_dim: int, channels: int = 384, blocks: int = 4) -> None:
        super().__init__()
        for name, size in (("", input_dim), ("target_", world.DIM)):
            self.register_buffer(f"{name}mean", torch.zeros(size))
            self.register_buffer(f"{name}deviation", torch.ones(size))
        self.first = nn.Conv1d(input_dim, channels, KERNEL, padding=HALF)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.last = nn.Conv1d(channels, world.DIM, 1)

    def normalize(self, features: tuple[Tensor, Tensor], parameters: tuple[Tensor, Tensor]) -> None:
        """Take mean and deviation of features, each ``(D,)``, and of parameters, each ``(252,)``."""
        for name, moments in (("", features), ("target_", parameters)):
            getattr(self, f"{name}mean").copy_(moments[0])
            getattr(self, f"{name}deviation").copy_(moments[1].clamp_min(1.0e-3))

    @property
    def context_frames(self) -> int:  # type: ignore[override]
        """Frames on each side that a frame's parameters depend on."""
        return HALF * (1 + len(self.blocks))

    def predict(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to normalized parameters ``(B, T, 252)``; those of voicing are logits."""
        x = ((features - self.mean) / self.deviation).transpose(1, 2)
        return self.last(F.gelu(self.blocks(self.first(x)))).transpose(1, 2)

    def encode(self, features: Tensor) -> Tensor:
        """Features ``(B, T, D)`` to parameters ``(B, T, 252)``; voicing is a probability."""
        predicted = self.predict(features).float()
        parameters = predicted * self.target_deviation + self.target_mean
        parameters[..., world.VOICING] = predicted[..., world.VOICING].sigmoid()
        return parameters
