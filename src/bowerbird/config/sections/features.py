"""Section `features`: encoders and layers."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import ModelReference, Section, parse_model

SPECTROGRAMS = ("log-mel", "log-mel-24k", "log-magnitude")  # encoders for which nothing is learned or downloaded
GE2E = "ge2e"  # the speaker encoder inside the resemblyzer package


class FeaturesConfig(Section):
    """Features of an encoder, 50 frames per second."""

    kind: Literal["self-supervised", "spectrogram", "phonetic", "speaker"] = Field(
        "self-supervised",
        description="self-supervised: a layer of WavLM, HuBERT or wav2vec 2.0; spectrogram; phonetic: phone posteriors or "
        "hidden states of a recognizer; speaker: one embedding per utterance, of its first max_window_s seconds",
    )
    encoder: str = Field(
        "bundled:nano-encoder",
        description="hub id, local folder or bundled:NAME; a spectrogram (its kind need not be given): log-mel, 80 bands, "
        "log-magnitude, 513 bins, or log-mel-24k, the 100 bands of NVIDIA's BigVGANs; kind phonetic: bundled:nano-phones, a CTC "
        "model, Whisper (hidden states of its encoder), or trained:EXPERIMENT, the Conformer of Takin-VC's stage ppg; kind "
        "speaker: ge2e, or an ECAPA-TDNN",
    )
    revision: str = Field("", description="commit of a hub id; pin it for published work")
    layer: int = Field(
        3,
        ge=0,
        description="transformer layer whose output is kept, 0 is its input; spectrograms, speaker embeddings and posteriors "
        "have layer 0, which is their default",
    )
    normalize_input: bool = Field(
        False, description="zero mean, unit variance per utterance (published VC systems: no)"
    )
    padding: Literal["none", "center"] = Field(
        "none",
        description="none: (n - 80) // 320 frames as the model gives; center: 40 zeros each side, n // 320 frames",
    )
    max_window_s: float = Field(
        30.0, gt=1, description="longer utterances go through in overlapping windows of this length"
    )
    overlap_s: float = Field(2.0, ge=0.2, description="overlap of those windows, seconds")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the forward pass; bfloat16 needs a GPU that has it"
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _defaults_of_the_kind(cls, values: Any) -> Any:
        """A spectrogram is recognized by its name; only a self-supervised encoder has a layer other than 0 by default."""
        if not isinstance(values, dict):
            return values
        implied = {"kind": "spectrogram"} if values.get("encoder") in SPECTROGRAMS else {}
        values = {**implied, **values}
        return values if values.get("kind", "self-supervised") == "self-supervised" else {"layer": 0, **values}

    @pydantic.model_validator(mode="after")
    def _fits_the_kind(self) -> FeaturesConfig:
        for prefix, kind in (("phonetic:", "phonetic"), ("voice-print:", "speaker")):
            if self.encoder.startswith(prefix):
                rest = self.encoder.removeprefix(prefix)
                raise ValueError(f"features.encoder: {self.encoder}: write kind: {kind} and encoder: {rest}")
        is_spectrogram = self.encoder in SPECTROGRAMS
        if is_spectrogram != (self.kind == "spectrogram"):
            raise ValueError(
                f"features.kind: {self.kind}: spectrograms are {', '.join(SPECTROGRAMS)}, not {self.encoder}"
            )
        if is_spectrogram and (self.layer or self.normalize_input or self.precision != "float32"):
            raise ValueError(
                f"features.encoder: {self.encoder}: has no layers and is never normalized; leave layer, normalize_input and "
                "precision at their defaults"
            )
        if self.overlap_s >= self.max_window_s:
            raise ValueError(
                f"features.overlap_s: {self.overlap_s:g}: not shorter than max_window_s = {self.max_window_s:g}; "
                "lower it, or raise max_window_s"
            )
        return self

    def model(self) -> ModelReference | None:
        """The weights behind the encoder; None for spectrograms and GE2E, which come with the code and its packages."""
        if self.kind == "spectrogram" or (self.kind == "speaker" and self.encoder == GE2E):
            return None
        reference = parse_model(self.encoder)
        if reference.kind == "trained":
            return ModelReference("trained", reference.name, reference.stage or "ppg")
        if reference.kind == "hub" and self.revision:
            return ModelReference("hub", reference.name, revision=self.revision)
        return reference
