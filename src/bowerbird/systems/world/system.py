"""Copy synthesis: the source from its own features, as `systems.vocoder` does it."""

from __future__ import annotations

from bowerbird.systems.vocoder.system import VocoderSystem

SYSTEM = VocoderSystem
