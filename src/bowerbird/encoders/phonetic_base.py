"""What every phonetic encoder is, whatever model is behind it.

Letters: ``N`` samples, ``T`` frames, ``D`` feature dimension.
"""

from __future__ import annotations

from torch import nn

from bowerbird.audio import HOP


class PhoneticModel(nn.Module):
    """A recognizer that is used as an encoder: 50 frames per second, as many as a self-supervised encoder gives.

    ``forward`` takes waves ``(N,)`` at 16 kHz and gives features ``(T, D)``, one each.
    """

    hop, receptive_field = HOP, HOP + 80
    is_windowed = True  # long utterances may go through in windows that start at multiples of the hop
    dim: int

    def num_frames(self, num_samples: int) -> int:
        """Frames of ``num_samples``."""
        return max((num_samples - 80) // HOP, 0)
