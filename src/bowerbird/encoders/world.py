"""WORLD's parameters as features: nothing is learned, nothing is downloaded, and they can be played.

See `bowerbird.nn.world` for what a frame holds. Utterances go through whole: the search for pitch follows its contour.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bowerbird.audio import HOP
from bowerbird.encoders.definition import Definition
from bowerbird.nn import world

DEFINITION = Definition(
    "world",
    "world 1: 16000 Hz, 5 ms, dio and stonemask 60-450 Hz, cheaptrick, 60 coded values, d4c, 1 band; 4 subframes a frame: "
    "envelopes, aperiodicities, voicings, log F0",
)


class WorldEncoder(nn.Module):
    """Waves to WORLD's parameters, 50 frames per second."""

    hop, receptive_field = HOP, HOP + 80
    is_windowed = False
    dim = world.DIM

    def num_frames(self, num_samples: int) -> int:
        """Frames of ``num_samples``."""
        return world.num_frames(num_samples)

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz, 400 samples at least, to rows ``(T, 252)`` float32, one each."""
        return [torch.from_numpy(world.analyze(wave.cpu().numpy())).to(wave.device) for wave in waves]
