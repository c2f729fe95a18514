"""Options of the shared vocoder."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from bowerbird.config.base import GanStage
from bowerbird.config.systems.base import ExperimentBase


class VocoderStage(GanStage):
    """Features to waveform: HiFi-GAN with the kNN-VC configuration, or a size for two cores."""

    generator: Literal["hifigan", "bigvgan-base", "hifigan-nano", "vocos-nano", "sourcefilter-nano"] = Field(
        "hifigan",
        description="hifigan: kNN-VC's, 16.53 M parameters; bigvgan-base: for mels, 14 M; the others train on two cores",
    )
    losses: Literal["knnvc", "palindromic"] = Field(
        "knnvc", description="knnvc: 45 mel + feature matching + LSGAN; palindromic: MR-STFT + LSGAN"
    )


class VocoderExperiment(ExperimentBase):
    """The shared vocoder: features of one layer to 16 kHz speech. Its conversion is copy synthesis of the source."""

    trains_on: ClassVar = {"vocoder": ("features", "audio", "pairs?")}

    system: Literal["vocoder"] = "vocoder"
    features: str = Field("nano", description="name in `features`")
    pairs: str = Field(
        "", description="prematched training: a variant of `pairs` with same_speaker: true; default: real features"
    )
    published: str = Field(
        "",
        description="folder or hub id (NAME@COMMIT) of NVIDIA's BigVGAN at 24 kHz, for features of encoder log-mel-24k; then "
        "nothing is trained",
    )
    vocoder: VocoderStage = Field(default_factory=VocoderStage, description="training stage")

    @property
    def stages(self) -> tuple[str, ...]:  # type: ignore[override]
        """Training stages in order."""
        return () if self.published else ("vocoder",)

    @property
    def converts_with(self) -> tuple[str, ...]:  # type: ignore[override]
        """What conversion reads besides manifest, audio and trials."""
        return ("features", "vocoder") if self.published else ("features",)
