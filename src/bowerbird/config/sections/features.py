"""Section `features`: encoders and layers."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import ModelReference, Section, parse_model

SPECTROGRAMS = ("log-mel", "log-mel-24k", "log-magnitude")  # encoders for which nothing is learned or downloaded
WORLD = "world"  # the parameters of WORLD's analysis and synthesis, likewise
GE2E = "ge2e"  # the speaker encoder inside the resemblyzer package
WHISPER_BASE = "whisper-base"  # Whisper base, put together out of two packages
WHISPER_LAYER = 4  # of Whisper base: its best single layer for retrieval (docs/nano.md)
# Kinds that are recognized by the encoder's name; the kind need not be given.
IMPLIED = dict.fromkeys(SPECTROGRAMS, "spectrogram") | {WORLD: "world", WHISPER_BASE: "phonetic"}


class FeaturesConfig(Section):
    """Features of an encoder, 50 frames per second."""

    kind: Literal["self-supervised", "spectrogram", "world", "phonetic", "speaker"] = Field(
        "self-supervised",
        description="self-supervised: a layer of WavLM, HuBERT or wav2vec 2.0; spectrogram; world: parameters of the vocoder "
        "WORLD; phonetic: phone posteriors or hidden states of a recognizer; speaker: one embedding per utterance, of its first "
        "max_window_s seconds",
    )
    encoder: str = Field(
        "bundled:nano-encoder",
        description="hub id, local folder or bundled:NAME; a spectrogram (its kind need not be given): log-mel, 80 bands, "
        "log-magnitude, 513 bins, or log-mel-24k, the 100 bands of NVIDIA's BigVGANs; world; kind phonetic: whisper-base (hidden "
        "states of its encoder; needs the extra asr) or another Whisper, a phone head (bundled:nano-phones), a CTC model, or "
        "trained:EXPERIMENT, the Conformer of Takin-VC's stage ppg; kind speaker: ge2e, or an ECAPA-TDNN",
    )
    revision: str = Field("", description="commit of a hub id; pin it for published work")
    layer: int = Field(
        3,
        ge=0,
        description="transformer layer whose output is kept, 0 is its input; what has no layers has layer 0, which is its default",
    )
    layers: list[int] = Field(
        [],
        description="several layers in the place of one: each is normalized (mean 0, deviation 1 over its values), then all are "
        "joined",
    )
    head: Literal["posteriors", "roots", "discriminants", "keys"] = Field(
        "posteriors",
        description="of a phone head: probabilities of phones; their square roots, whose cosine compares distributions "
        "(Bhattacharyya); a linear projection that tells phones apart (LDA); or keys: both, and states of the encoder below",
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

    @property
    def all_layers(self) -> tuple[int, ...]:
        """The layers that are kept, in order."""
        return tuple(self.layers) or (self.layer,)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _defaults_of_the_kind(cls, values: Any) -> Any:
        """Some encoders are recognized by their names; only self-supervised ones and Whisper have a layer other than 0 by default."""
        if not isinstance(values, dict):
            return values
        encoder = values.get("encoder")
        implied: dict[str, Any] = {"kind": IMPLIED[encoder]} if encoder in IMPLIED else {}
        values = {**implied, **values}
        if encoder == WHISPER_BASE:
            return {"layer": WHISPER_LAYER, **values}
        return values if values.get("kind", "self-supervised") == "self-supervised" else {"layer": 0, **values}

    @pydantic.model_validator(mode="after")
    def _fits_the_kind(self) -> FeaturesConfig:
        for prefix, kind in (("phonetic:", "phonetic"), ("voice-print:", "speaker")):
            if self.encoder.startswith(prefix):
                rest = self.encoder.removeprefix(prefix)
                raise ValueError(f"features.encoder: {self.encoder}: write kind: {kind} and encoder: {rest}")
        if self.encoder in IMPLIED and self.kind != IMPLIED[self.encoder]:
            raise ValueError(f"features.kind: {self.kind}: {self.encoder} is of kind {IMPLIED[self.encoder]}")
        is_computed = self.kind in ("spectrogram", "world")
        if is_computed and self.encoder not in IMPLIED:
            known = ", ".join(name for name, kind in IMPLIED.items() if kind == self.kind)
            raise ValueError(f"features.encoder: {self.encoder}: no encoder of kind {self.kind}; there is {known}")
        if is_computed and (self.layer or self.layers or self.normalize_input or self.precision != "float32"):
            raise ValueError(
                f"features.encoder: {self.encoder}: has no layers and is never normalized; leave layer, layers, normalize_input "
                "and precision at their defaults"
            )
        if self.layers and (min(self.layers) < 0 or self.layers != sorted(set(self.layers))):
            raise ValueError(f"features.layers: {self.layers}: give layers in order, each once: [3, 4, 5, 6]")
        if self.layers and self.kind == "speaker":
            raise ValueError(f"features.layers: {self.layers}: kind speaker has no layers")
        if self.overlap_s >= self.max_window_s:
            raise ValueError(
                f"features.overlap_s: {self.overlap_s:g}: not shorter than max_window_s = {self.max_window_s:g}; "
                "lower it, or raise max_window_s"
            )
        return self

    def model(self) -> ModelReference | None:
        """The weights behind the encoder; None of those that come with the code and its packages."""
        if self.kind in ("spectrogram", "world") or self.encoder == WHISPER_BASE:
            return None
        if self.kind == "speaker" and self.encoder == GE2E:
            return None
        reference = parse_model(self.encoder)
        if reference.kind == "trained":
            return ModelReference("trained", reference.name, reference.stage or "ppg")
        if reference.kind == "hub" and self.revision:
            return ModelReference("hub", reference.name, revision=self.revision)
        return reference
