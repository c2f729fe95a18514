"""Options of Stepback."""

from __future__ import annotations

from typing import ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import StageOptions
from bowerbird.config.systems.base import ExperimentBase


class SpectrogramStage(StageOptions):
    """What Stepback's three stages have in common; learning rate, betas, clipping and batch as published in 2018."""

    batch_size: int = Field(32, ge=1, description="items a step, over all GPUs")
    grad_clip: float = Field(5.0, ge=0, description="largest gradient norm; 0: no clipping")
    segment_frames: int = Field(80, ge=32, description="frames of a training crop (20 ms each)")
    reference_s: float = Field(1.6, gt=0, description="speech of the speaker that stands for the voice in training")
    learning_rate: float = Field(1.0e-4, gt=0, description="Adam's highest")
    lr_decay: float = Field(1.0, gt=0, le=1, description="factor each `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam")
    beta2: float = Field(0.9, ge=0, lt=1, description="Adam")
    start_from: str = Field("", description="bundled:NAME or a model folder whose weights start this stage")


class PreparationStage(SpectrogramStage):
    """Stepback, stage 1: encoder and decoder learn to reconstruct. The sizes of both are decided here."""

    speakers: Literal["reference", "table"] = Field(
        "reference",
        description="reference: a voice is the embedding of some of its speech (zero-shot); table: one vector for each "
        "training speaker (as published; converts to those only)",
    )
    speaker_encoder: str = Field("ge2e", description="speakers: reference: the frozen verifier, as in Palindromic VC")
    speaker_dim: int = Field(128, ge=1, description="speakers: table: length of a speaker's vector")
    channels: int = Field(512, ge=8, description="of encoder and decoder")
    latent: int = Field(512, ge=1, description="channels of the content z")
    bank: int = Field(8, ge=1, description="kernel sizes of the first convolutions: 1 to this")
    bank_channels: int = Field(128, ge=1, description="of each of them")
    halvings: int = Field(2, ge=1, le=4, description="z has 50 / 2^halvings frames a second (published: 80 / 2^3)")
    dropout: float = Field(0.5, ge=0, lt=1, description="in the encoder")


class ClassifierStage(SpectrogramStage):
    """Stepback, stage 2: who is heard in a spectrogram. Frozen afterwards."""

    channels: int = Field(512, ge=8, description="of its convolutions")
    dropout: float = Field(0.3, ge=0, lt=1, description="after each block")
    scale: float = Field(15.0, gt=0, description="speakers: reference: factor of the cosines before the softmax")
    reconstructed_weight: float = Field(
        1.0, ge=0, description="of the loss on what stage 1 makes of the recordings, beside that on recordings"
    )


class DualFlowStage(SpectrogramStage):
    """Stepback, stage 3: one latent, two flows: back to its own speaker, and away to another."""

    reconstruction_weight: float = Field(10.0, ge=0, description="of L_rec, the own speaker's flow")
    toward_weight: float = Field(1.0, ge=0, description="of L_to: the conversion is heard as the target (lambda_to)")
    away_weight: float = Field(1.0, ge=0, description="of L_away: it is not heard as the source (lambda_away)")
    amendment_weight: float = Field(5.0, ge=0, description="of L_amend, the self-destructive amendment (lambda_amend)")
    margin: float = Field(
        0.7, gt=0, description="distance from source to conversion beyond which the amendment is silent, nepers (ln)"
    )
    robustness_weight: float = Field(10.0, ge=0, description="of L_rob, in the small stages of robustness")
    robustness_every: int = Field(4, ge=0, description="each so-many-th step is one of robustness; 0: none")
    snr_min_db: float = Field(0.0, description="loudest noise of the robustness stage")
    snr_max_db: float = Field(30.0, description="faintest noise of the robustness stage")
    conversion_from: int = Field(0, ge=0, description="step at which L_to and L_away join")
    conversion_ramp: int = Field(1000, ge=0, description="steps over which their weights rise")
    amendment_from: int = Field(0, ge=0, description="step at which L_amend joins")
    amendment_ramp: int = Field(1000, ge=0, description="steps over which its weight rises")
    decoder_rate: float = Field(0.1, ge=0, description="learning rate of the decoder relative to the encoder's")

    @pydantic.model_validator(mode="after")
    def _noise_range(self) -> DualFlowStage:
        if self.snr_max_db < self.snr_min_db:
            raise ValueError(f"dual_flow.snr_max_db: {self.snr_max_db:g}: below snr_min_db = {self.snr_min_db:g}")
        return self


class StepbackExperiment(ExperimentBase):
    """Stepback: an autoencoder on spectrograms, disentangled by a frozen classifier and a bounded step away."""

    stages: ClassVar = ("preparation", "classifier", "dual_flow")
    trains_on: ClassVar = {
        "preparation": ("features", "audio"),
        "classifier": ("features", "audio", "stage:preparation"),
        "dual_flow": ("features", "audio", "stage:preparation", "stage:classifier"),
    }
    converts_with: ClassVar = ("features", "vocoder")

    system: Literal["stepback"] = "stepback"
    features: str = Field("mel", description="name in `features`: log spectra (encoder: log-mel or log-magnitude)")
    vocoder: str = Field(
        "bundled:nano-vocoder-mel", description="experiment that trains it on these features, or bundled:NAME"
    )
    synthesis: Literal["vocoder", "griffin-lim"] = Field(
        "vocoder", description="griffin-lim: no vocoder, for features of encoder log-magnitude (as published in 2018)"
    )
    uses: Literal["dual_flow", "preparation"] = Field(
        "dual_flow", description="whose encoder and decoder convert; preparation: the control before any amendment"
    )
    input: Literal["clean", "noise", "clipping", "opus", "mp3"] = Field(
        "clean", description="what is done to the source before it is converted"
    )
    input_level: float = Field(
        0.0, description="noise: SNR, dB; clipping: share of samples that clip; opus, mp3: quality from 0 (worst) to 1"
    )
    preparation: PreparationStage = Field(default_factory=PreparationStage, description="stage 1")
    classifier: ClassifierStage = Field(default_factory=ClassifierStage, description="stage 2")
    dual_flow: DualFlowStage = Field(default_factory=DualFlowStage, description="stage 3")
