"""Generators and discriminators by name."""

from __future__ import annotations

from bowerbird.errors import BowerbirdError
from bowerbird.nn import world
from bowerbird.nn.bigvgan import BigVgan
from bowerbird.nn.discriminators import (
    Discriminators,
    bigvgan_discriminators,
    hifigan_discriminators,
    nano_discriminators,
    vits_discriminators,
)
from bowerbird.nn.hifigan import HifiGan
from bowerbird.nn.sourcefilter import SourceFilter
from bowerbird.nn.vocos import Vocos
from bowerbird.nn.world_vocoder import WorldSynthesis, WorldVocoder

Generator = HifiGan | Vocos | SourceFilter | BigVgan | WorldSynthesis

GENERATORS = (
    "hifigan",
    "hifigan-1024",
    "hifigan-nano",
    "vocos-nano",
    "sourcefilter-nano",
    "bigvgan-base",
    "world",
    "world-nano",
)


def build_generator(name: str, input_dim: int) -> Generator:
    """Generator ``name`` for features of ``input_dim``: ``(batch, frames, input_dim)`` to ``(batch, 320 * frames)``."""
    if name == "hifigan":
        return HifiGan(input_dim)
    if name == "hifigan-1024":  # QR-VC's: its disentangler stands where the first convolution was
        return HifiGan(input_dim, linear_dim=0, channels=1024, upsample_kernels=(16, 16, 4, 4))
    if name == "hifigan-nano":
        return HifiGan(input_dim, linear_dim=128, channels=128)
    if name == "vocos-nano":
        return Vocos(input_dim)
    if name == "sourcefilter-nano":
        return SourceFilter(input_dim)
    if name == "bigvgan-base":  # for mels
        return BigVgan(input_dim)
    if name == "world-nano":
        return WorldVocoder(input_dim)
    if name == "world" and input_dim == world.DIM:  # features that are its parameters
        return WorldSynthesis()
    raise BowerbirdError(f"generator: {name!r}: unknown; known: {', '.join(GENERATORS)}")


def build_discriminators(generator: str) -> Discriminators:
    """The discriminators that a generator is trained against."""
    if generator.endswith("-nano"):
        return nano_discriminators()
    sets = {"hifigan-1024": vits_discriminators, "bigvgan-base": bigvgan_discriminators}
    return sets.get(generator, hifigan_discriminators)()
