"""Section `features`: encoders and layers."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import Section

PHONETIC, VOICE_PRINT = "phonetic:", "voice-print:"  # before the name of an encoder of another kind


SPECTROGRAMS = ("log-mel", "log-mel-24k", "log-magnitude")  # encoders that nothing is learned or downloaded for


class FeaturesConfig(Section):
    """Self-supervised features of one layer (WavLM, HuBERT, wav2vec 2.0)."""

    encoder: str = Field(
        "bundled:nano-encoder",
        description="hub id, local directory, bundled:nano-encoder; a spectrogram (layer: 0): log-mel, 80 bands, "
        "log-magnitude, 513 bins, or log-mel-24k, the 100 bands of NVIDIA's BigVGANs; "
        "phonetic:NAME: phone posteriors of bundled:nano-phones or a CTC model, hidden states of Whisper's encoder; "
        "phonetic:trained:EXPERIMENT: of the Conformer that Takin-VC's stage ppg trains, posteriors (layer: 0) or states of a block; "
        "voice-print:ge2e, or voice-print:NAME of an ECAPA-TDNN: one row an utterance, of its first max_window_s seconds",
    )
    revision: str = Field("", description="commit of a hub id; pin it for published work")
    layer: int = Field(3, ge=0, description="transformer layer whose output is kept; 0 is its input")
    normalize_input: bool = Field(
        False, description="zero mean, unit variance per utterance (published VC systems: no)"
    )
    padding: Literal["none", "centre"] = Field(
        "none",
        description="none: (n - 80) // 320 frames as the model gives; centre: 40 zeros each side, n // 320 frames",
    )
    max_window_s: float = Field(
        30.0, gt=1, description="longer utterances go through in overlapping windows of this length"
    )
    overlap_s: float = Field(2.0, ge=0.2, description="overlap of those windows, seconds")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the forward pass; bfloat16 needs a GPU that has it"
    )

    @pydantic.model_validator(mode="after")
    def _spectrogram_has_no_layers(self) -> FeaturesConfig:
        spectrogram = self.encoder in SPECTROGRAMS
        if spectrogram and (self.layer or self.normalize_input or self.precision != "float32"):
            raise ValueError(
                f"features.encoder: {self.encoder}: has no layers and is never normalized; set layer: 0, and leave "
                "normalize_input and precision at their defaults"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _windows_advance(self) -> FeaturesConfig:
        if self.overlap_s >= self.max_window_s:
            raise ValueError(
                f"features.overlap_s: {self.overlap_s:g}: not shorter than max_window_s = {self.max_window_s:g}; "
                "lower it, or raise max_window_s"
            )
        return self
