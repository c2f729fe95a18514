"""Losses of vocoders. Each is a mean over the items of a batch, so a batch may be split in equal parts anywhere.

Letters: ``B`` batch, ``N`` samples, ``V`` values of a discriminator's score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.nn.mel import stft_magnitude

# (n_fft, hop, win) in samples: Yamamoto et al. 2020 (Parallel WaveGAN), table 1
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))


class MultiResolutionStftLoss(nn.Module):
    """Mean over resolutions of spectral convergence + log-magnitude L1 (Yamamoto et al. 2020, eq. 5-7).

    ``L_sc = ||S - Ŝ||_F / ||S||_F`` is taken for each utterance and then averaged (published code takes one norm over
    the whole batch, which makes the loss depend on how a batch is split). ``L_mag = mean |log S - log Ŝ|``.
    """

    def __init__(self, resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS, floor: float = 1.0e-4) -> None:
        super().__init__()
        self.resolutions, self.floor = tuple(resolutions), floor
        for n_fft, _, win in self.resolutions:
            self.register_buffer(f"window_{n_fft}", torch.hann_window(win), persistent=False)

    def forward(self, generated: Tensor, wave: Tensor) -> Tensor:
        """Generated and recorded waves ``(B, N)`` to a scalar."""
        with torch.autocast(wave.device.type, enabled=False):
            losses = [
                self._at(n_fft, hop, win, generated.float(), wave.float()) for n_fft, hop, win in self.resolutions
            ]
        return torch.stack(losses).mean()

    def _at(self, n_fft: int, hop: int, win: int, generated: Tensor, wave: Tensor) -> Tensor:
        """The loss at one resolution (scalar) of waves ``(B, N)``."""
        window = self.get_buffer(f"window_{n_fft}")
        fake = stft_magnitude(generated, n_fft, hop, win, window).clamp_min(self.floor)
        real = stft_magnitude(wave, n_fft, hop, win, window).clamp_min(self.floor)
        convergence = (real - fake).norm(dim=(1, 2)) / real.norm(dim=(1, 2))
        return convergence.mean() + F.l1_loss(fake.log(), real.log())


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """LSGAN loss of the discriminators (Mao et al. 2017): scores of real speech to 1, of generated speech to 0.

    ``real`` and ``fake`` hold one score ``(B, V)`` per sub-discriminator; their losses are summed (scalar).
    """
    return _total((1 - r.float()).square().mean() + f.float().square().mean() for r, f in zip(real, fake, strict=True))


def generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """LSGAN loss of the generator: scores of generated speech to 1.

    ``fake`` holds one score ``(B, V)`` per sub-discriminator; their losses are summed (scalar).
    """
    return _total((1 - f.float()).square().mean() for f in fake)


def feature_matching_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 between the layers' activations for real and generated speech, summed over layers (Kumar et al. 2019).

    ``real`` and ``fake`` hold the activations ``(B, ...)`` by layer of each sub-discriminator; the result is a scalar.
    """
    return _total(
        F.l1_loss(f.float(), r.detach().float())
        for layers_real, layers_fake in zip(real, fake, strict=True)
        for r, f in zip(layers_real, layers_fake, strict=True)
    )


def _total(losses: Iterable[Tensor]) -> Tensor:
    """The sum of scalars, in their order."""
    return reduce(torch.add, losses)
