"""Options of Stepback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import StageOptions, Variant
from bowerbird.config.systems.base import ExperimentBase, Inputs
from bowerbird.config.systems.vocoder import start_reference, vocoder_reference


class SpectrogramStage(StageOptions):
    """What Stepback's three stages have in common; learning rate, betas, clipping and batch as published in 2018."""

    batch_size: int = Field(32, ge=1, description="items per step, over all GPUs")
    grad_clip: float = Field(5.0, ge=0, description="largest gradient norm; 0: no clipping")
    segment_frames: int = Field(80, ge=32, description="frames of a training crop (20 ms each)")
    reference_s: float = Field(1.6, gt=0, description="speech of the speaker that stands for the voice in training")
    learning_rate: float = Field(1.0e-4, gt=0, description="Adam's highest learning rate")
    lr_decay: float = Field(1.0, gt=0, le=1, description="factor per `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    beta1: float = Field(0.5, ge=0, lt=1, description="of Adam")
    beta2: float = Field(0.9, ge=0, lt=1, description="of Adam")


class PreparationStage(SpectrogramStage):
    """Stepback, stage 1: encoder and decoder learn to reconstruct. The sizes of both are decided here."""

    steps: int = Field(8000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    speakers: Literal["reference", "table"] = Field(
        "reference",
        description="reference: a voice is the embedding of some of its speech (zero-shot); table: one vector for each "
        "training speaker (as published; converts to those only)",
    )
    speaker_encoder: str = Field("ge2e", description="speakers: reference: the frozen verifier, as in Palindromic VC")
    speaker_dim: int = Field(128, ge=1, description="speakers: table: length of a speaker's vector")
    channels: int = Field(512, ge=8, description="of encoder and decoder")
    latent: int = Field(512, ge=1, description="channels of the content z")
    conv_bank_size: int = Field(8, ge=1, description="kernel sizes of the first convolutions: 1 to this")
    conv_bank_channels: int = Field(128, ge=1, description="of each of them")
    num_downsamplings: int = Field(
        2, ge=1, le=4, description="z has 50 / 2^num_downsamplings frames per second (published: 80 / 2^3)"
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="in the encoder")


class ClassifierStage(SpectrogramStage):
    """Stepback, stage 2: the speaker classifier of spectrograms, frozen afterwards."""

    steps: int = Field(20_000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    channels: int = Field(512, ge=8, description="of its convolutions")
    dropout: float = Field(0.3, ge=0, lt=1, description="after each block")
    scale: float = Field(15.0, gt=0, description="speakers: reference: factor of the cosines before the softmax")
    reconstructed_weight: float = Field(
        1.0, ge=0, description="of the loss on what stage 1 makes of the recordings, beside that on recordings"
    )


class DualFlowStage(SpectrogramStage):
    """Stepback, stage 3: one latent, two flows: back to its own speaker, and away to another."""

    steps: int = Field(80_000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    reconstruction_weight: float = Field(10.0, ge=0, description="of L_rec, the own speaker's flow")
    toward_weight: float = Field(
        1.0, ge=0, description="of L_to: the conversion is classified as the target (lambda_to)"
    )
    away_weight: float = Field(1.0, ge=0, description="of L_away: it is not classified as the source (lambda_away)")
    amendment_weight: float = Field(5.0, ge=0, description="of L_amend, the self-destructive amendment (lambda_amend)")
    margin: float = Field(
        0.7, gt=0, description="distance from source to conversion beyond which the amendment is zero, nepers (ln)"
    )
    robustness_weight: float = Field(10.0, ge=0, description="of L_rob, in the small stages of robustness")
    robustness_every: int = Field(4, ge=0, description="every n-th step trains robustness; 0: never")
    snr_min_db: float = Field(0.0, description="loudest noise of the robustness stage")
    snr_max_db: float = Field(30.0, description="faintest noise of the robustness stage")
    conversion_from: int = Field(0, ge=0, description="step at which L_to and L_away join")
    conversion_ramp: int = Field(50_000, ge=0, description="steps over which their weights rise")
    amendment_from: int = Field(0, ge=0, description="step at which L_amend joins")
    amendment_ramp: int = Field(50_000, ge=0, description="steps over which its weight rises")
    decoder_rate: float = Field(0.1, ge=0, description="learning rate of the decoder relative to the encoder's")

    @pydantic.model_validator(mode="after")
    def _noise_range(self) -> DualFlowStage:
        if self.snr_max_db < self.snr_min_db:
            raise ValueError(f"dual_flow.snr_max_db: {self.snr_max_db:g}: below snr_min_db = {self.snr_min_db:g}")
        return self


class StepbackExperiment(ExperimentBase):
    """Stepback: an autoencoder on spectrograms, disentangled by a frozen classifier and a bounded step away."""

    SIZES: ClassVar[Mapping[str, Any]] = {
        "nano": {
            "preparation": {
                "start_from": "bundled:nano-stepback-preparation",
                "channels": 128,
                "latent": 64,
                "conv_bank_size": 4,
                "conv_bank_channels": 32,
                "dropout": 0.0,
                "steps": 10,
                "batch_size": 8,
                "learning_rate": 1.0e-4,
            },
            "classifier": {"channels": 96, "dropout": 0.1, "steps": 60, "batch_size": 8, "learning_rate": 1.0e-3},
            "dual_flow": {
                "steps": 60,
                "batch_size": 8,
                "learning_rate": 5.0e-4,
                "conversion_ramp": 10,
                "amendment_ramp": 10,
                "decoder_rate": 0.5,
            },
        }
    }
    REFERENCES: ClassVar = frozenset({"features", "vocoder"})

    system: Literal["stepback"] = "stepback"
    features: str = Field("mel", description="name in `features`: log spectra (encoder: log-mel or log-magnitude)")
    vocoder: str = Field(
        "bundled:nano-world-mel",
        description="experiment that trains it on these features, bundled:NAME, or a model folder",
    )
    synthesis: Literal["vocoder", "griffin-lim"] = Field(
        "vocoder", description="griffin-lim: no vocoder, for features of encoder log-magnitude (as published in 2018)"
    )
    checkpoint: Literal["dual_flow", "preparation"] = Field(
        "dual_flow",
        description="stage whose encoder and decoder convert; preparation: the control before any amendment",
    )
    corruption: Literal["none", "noise", "clipping", "opus", "mp3"] = Field(
        "none", description="what is done to the source before it is converted"
    )
    corruption_level: float = Field(
        0.0, description="noise: SNR, dB; clipping: share of samples that clip; opus, mp3: quality from 0 (worst) to 1"
    )
    preparation: PreparationStage = Field(default_factory=PreparationStage, description="stage 1")
    classifier: ClassifierStage = Field(default_factory=ClassifierStage, description="stage 2")
    dual_flow: DualFlowStage = Field(default_factory=DualFlowStage, description="stage 3")

    @property
    def stages(self) -> tuple[str, ...]:
        """Training stages in order."""
        return ("preparation", "classifier", "dual_flow")

    def training_inputs(self, stage: str) -> Inputs:
        """Spectra, the speech that stands for a voice, and the models of the stages before."""
        inputs: Inputs = {"features": Variant("features", self.features), "audio": Variant("audio")}
        for before in self.stages[: self.stages.index(stage)]:
            inputs[before] = self.model(before)
        return inputs | start_reference(self.stage_options(stage), stage)

    def conversion_inputs(self) -> Inputs:
        """Spectra of the source, the stage that `checkpoint` names, and the vocoder, unless Griffin-Lim replaces it."""
        inputs: Inputs = {
            "features": Variant("features", self.features),
            self.checkpoint: self.model(self.checkpoint),
        }
        if self.synthesis == "griffin-lim":
            return inputs
        return inputs | {"vocoder": vocoder_reference(self.vocoder)}

    def external_models(self) -> Iterator[tuple[str, str]]:
        """The verifier whose embeddings stand for voices may come from a hub."""
        if self.preparation.speakers == "reference":
            yield "preparation.speaker_encoder", self.preparation.speaker_encoder

    def verifiers(self) -> Iterator[tuple[str, str]]:
        """The verifier whose embeddings stand for voices."""
        if self.preparation.speakers == "reference":
            yield self.preparation.speaker_encoder, "reads voices through it"

    def content_models(self) -> tuple[str, ...]:
        """Both stages that train the encoder."""
        return ("preparation", "dual_flow")
