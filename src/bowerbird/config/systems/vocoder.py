"""Options of the shared vocoder, and of copy synthesis by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from bowerbird.config.base import GanStage, ModelReference, StageOptions, Variant, parse_model
from bowerbird.config.systems.base import ExperimentBase, Inputs, Kind


class VocoderStage(GanStage):
    """Features to waveform: HiFi-GAN with the kNN-VC configuration, or a size for two cores."""

    generator: Literal["hifigan", "bigvgan-base", "hifigan-nano", "vocos-nano", "sourcefilter-nano"] = Field(
        "hifigan",
        description="hifigan: kNN-VC's, 16.53 M parameters; bigvgan-base: for mels, 14 M; the others train on two cores",
    )
    losses: Literal["knnvc", "palindromic"] = Field(
        "knnvc", description="knnvc: 45 mel + feature matching + LSGAN; palindromic: MR-STFT + LSGAN"
    )
    steps: int = Field(1_000_000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")


class VocoderExperiment(ExperimentBase):
    """Vocoder: features of one layer to 16 kHz speech. Its conversion is copy synthesis of the source."""

    SIZES: ClassVar[Mapping[str, Any]] = {
        "nano": {
            "vocoder": {
                "generator": "sourcefilter-nano",
                "start_from": "bundled:nano-vocoder",
                "steps": 100,
                "learning_rate": 1.0e-4,
                "adversarial_from": 1_000_000,  # reconstruction only
            }
        }
    }
    REFERENCES: ClassVar = frozenset({"features", "pairs", "pretrained"})

    system: Literal["vocoder"] = "vocoder"
    features: str = Field("nano", description="name in `features`")
    pairs: str = Field(
        "", description="prematched training: a variant of `pairs` with same_speaker: true; default: real features"
    )
    pretrained: str = Field(
        "",
        description="then nothing is trained: bundled:NAME (bundled:world plays features of encoder world), or folder or hub id "
        "(NAME@COMMIT) of NVIDIA's BigVGAN at 24 kHz, for features of encoder log-mel-24k",
    )
    vocoder: VocoderStage = Field(default_factory=VocoderStage, description="training stage")

    @property
    def stages(self) -> tuple[str, ...]:
        """Training stages in order."""
        return () if self.pretrained else ("vocoder",)

    @property
    def is_published(self) -> bool:
        """Whether it is NVIDIA's BigVGAN, which reads mels at 24 kHz."""
        return bool(self.pretrained) and parse_model(self.pretrained).kind != "bundled"

    def model(self, stage: str) -> ModelReference:
        """The vocoder: the published one that the options name, or that of the training stage."""
        return parse_model(self.pretrained) if self.pretrained else super().model(stage)

    def training_inputs(self, stage: str) -> Inputs:
        """Features and the audio they stand for; prematched features, where pairs are named."""
        inputs: Inputs = {"features": Variant("features", self.features), "audio": Variant("audio")}
        pairs: Inputs = {"pairs": Variant("pairs", self.pairs)} if self.pairs else {}
        return inputs | pairs | start_reference(self.stage_options(stage), stage)

    def conversion_inputs(self) -> Inputs:
        """The source's features, and the vocoder itself."""
        return {"features": Variant("features", self.features), "vocoder": self.model("vocoder")}

    def external_models(self) -> Iterator[tuple[str, str]]:
        """The pretrained generator may come from a hub."""
        yield "pretrained", self.pretrained

    def kind(self, pair_methods: Mapping[str, str]) -> Kind:
        """An anchor: copy synthesis bounds every system on this vocoder."""
        return "anchor"

    def anchor_role(self) -> str:
        """The bound of every system on this vocoder."""
        return "vocoder"

    def title(self, pair_methods: Mapping[str, str]) -> str:
        """What the anchor plays."""
        return "the source through the vocoder: resynthesis"


def vocoder_reference(name: str) -> ModelReference:
    """The vocoder that an option of another system names: an experiment, bundled:NAME, a folder or a hub id."""
    return parse_model(name, stage="vocoder")


def start_reference(options: StageOptions, stage: str) -> Inputs:
    """The model that a stage starts from, in the role ``start``; nothing where it starts from fresh weights."""
    return {"start": parse_model(options.start_from, stage=stage)} if options.start_from else {}
