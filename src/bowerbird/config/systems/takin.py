"""Options of Takin-VC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import AdamWStage, GanStage, Section, Variant
from bowerbird.config.systems.base import ExperimentBase, Inputs
from bowerbird.config.systems.palindromic import check_prompt_range
from bowerbird.config.systems.vocoder import start_reference, vocoder_reference


class PpgStage(AdamWStage):
    """Takin-VC's recognizer: a Conformer of ours with CTC on the corpus's transcripts; what it computes are features."""

    steps: int = Field(200_000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    symbols: Literal["characters", "words"] = Field(
        "characters",
        description="characters: of the transcripts; words: what spaces separate, for transcripts that are phones",
    )
    layers: int = Field(12, ge=1, description="Conformer blocks")
    kernel: int = Field(31, ge=1, description="frames of the depthwise convolution; odd")
    width: int = Field(512, ge=8, description="of the blocks")
    heads: int = Field(8, ge=1, description="of attention")
    feedforward: int = Field(2048, ge=8, description="width of the feed-forward layers")
    channels: int = Field(128, ge=1, description="of the convolutions in front, which halve the rate of mels at 10 ms")
    dropout: float = Field(0.1, ge=0, lt=1, description="in all blocks")
    mask_bands: int = Field(27, ge=0, le=80, description="SpecAugment: most bands hidden, twice; 0: none")
    mask_time: float = Field(
        0.05, ge=0, le=1, description="SpecAugment: largest share of time hidden, ten times; 0: none"
    )
    longest_s: float = Field(20.0, gt=0, description="longer utterances are left out, seconds")
    batch_size: int = Field(64, ge=1, description="items per step, over all GPUs")
    learning_rate: float = Field(5.0e-4, gt=0, description="AdamW's highest learning rate")
    lr_warmup: int = Field(10_000, ge=0, description="steps of linear rise")
    lr_decay: float = Field(0.98, gt=0, le=1, description="factor per `lr_decay_steps`")
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> PpgStage:
        if self.kernel % 2 == 0:
            raise ValueError(f"ppg.kernel: {self.kernel}: must be odd")
        if self.width % (2 * self.heads):
            raise ValueError(f"ppg.heads: {self.heads}: twice the heads must divide width = {self.width}")
        return self


class HybridContentOptions(Section):
    """Takin-VC's hybrid content encoder: quantized self-supervised features, fused with phonetic ones."""

    codes: int = Field(8200, ge=2, description="of each level of the residual vector quantizer")
    levels: int = Field(1, ge=1, description="of the quantizer")
    code_dim: int = Field(1024, ge=2, description="dimensions of a code")
    content_dim: int = Field(768, ge=2, description="of the encoder's output")
    fusion: Literal["product", "weighted_sum"] = Field(
        "product", description="of the quantized and the phonetic features; the paper's text says both"
    )
    ssl: bool = Field(True, description="false: the phonetic features alone (the paper's ablation)")
    vq_weight: float = Field(0.01, ge=0, description="of the quantizer's commitment (lambda_vq)")


class ContentStage(HybridContentOptions, GanStage):
    """Takin-VC, stage 1: the content encoder with a decoder of waveforms, as a codec; the decoder is for training only.

    `start_from` starts the decoder.
    """

    steps: int = Field(200_000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    generator: Literal["hifigan", "hifigan-nano", "vocos-nano", "sourcefilter-nano"] = Field(
        "hifigan", description="the decoder; all but hifigan train on two cores"
    )
    losses: Literal["codec"] = Field("codec", description="45 mel + feature matching + LSGAN + lambda_vq commitment")
    segment_frames: int = Field(48, ge=4, description="frames of a training crop (20 ms each)")
    batch_size: int = Field(32, ge=1, description="items per step, over all GPUs")


class FlowStage(HybridContentOptions, AdamWStage):
    """Takin-VC, stage 2: conditional flow matching with both timbre modules; the content encoder learns on."""

    steps: int = Field(400_000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    context_layers: int = Field(6, ge=0, description="of context-aware cross-attention; 0: without (ablation)")
    context_width: int = Field(1024, ge=8, description="of the cross-attention")
    heads: int = Field(8, ge=1, description="of all attention")
    memory_layers: int = Field(
        4, ge=0, description="self-attention blocks of the timbre memory (6 as a variant); 0: without memory (ablation)"
    )
    memory_width: int = Field(512, ge=8, description="of the timbre memory")
    width: int = Field(1280, ge=8, description="of the U-Net")
    layers: int = Field(10, ge=2, multiple_of=2, description="of the U-Net, half of them on the way down")
    blocks: int = Field(3, ge=1, description="residual blocks of a layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="in all blocks")
    condition_dropout: float = Field(0.1, ge=0, lt=1, description="share of items trained without condition (guidance)")
    segment_frames: int = Field(200, ge=4, description="frames of a training crop (20 ms each)")
    prompt_min_s: float = Field(2.0, gt=0, description="shortest reference; lengths are uniform")
    prompt_max_s: float = Field(6.0, gt=0, description="longest reference")
    lr_warmup: int = Field(5000, ge=0, description="steps of linear rise")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights; 0: none")
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")
    batch_size: int = Field(32, ge=1, description="items per step, over all GPUs")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> FlowStage:
        check_prompt_range("flow", self.prompt_min_s, self.prompt_max_s)
        for name in ("context_width", "memory_width"):
            if getattr(self, name) % self.heads:
                raise ValueError(f"flow.heads: {self.heads}: does not divide {name} = {getattr(self, name)}")
        return self


class TakinExperiment(ExperimentBase):
    """Takin-VC: hybrid content, two models of the reference's timbre, and flow matching from noise to mels.

    With `recognizer: trained`, `phones` names features of kind phonetic whose encoder is trained:NAME, NAME this experiment or
    another whose model of stage `ppg` it reuses.
    """

    SIZES: ClassVar[Mapping[str, Any]] = {
        "paper": {"speaker_encoder": "speechbrain/spkrec-ecapa-voxceleb"},
        "nano": {
            "reference_s": 10.0,
            "vocoder": "bundled:nano-world-mel",
            "content_training": "joint",  # content encoder and flow start from bundled ones, together
            "ppg": {
                "layers": 2,
                "width": 64,
                "heads": 2,
                "feedforward": 128,
                "channels": 8,
                "steps": 1000,
                "batch_size": 16,
            },
            "content": {
                "codes": 512,
                "code_dim": 64,
                "content_dim": 96,
                "generator": "sourcefilter-nano",
                "segment_frames": 40,
                "steps": 1000,
                "batch_size": 8,
                "adversarial_from": 1_000_000,
            },
            "flow": {
                "codes": 512,
                "code_dim": 64,
                "content_dim": 96,
                "context_layers": 2,
                "context_width": 128,
                "heads": 4,
                "memory_layers": 2,
                "memory_width": 128,
                "width": 144,
                "layers": 4,
                "blocks": 2,
                "segment_frames": 75,
                "prompt_min_s": 1.0,
                "prompt_max_s": 3.0,
                "start_from": "bundled:nano-takin",
                "steps": 60,
                "batch_size": 8,
                "learning_rate": 1.0e-4,
                "lr_warmup": 10,
                "ema": 0.0,
            },
        },
    }
    REFERENCES: ClassVar = frozenset({"features", "mels", "phones", "speaker_embeddings", "vocoder"})
    OF_TRAINING: ClassVar = frozenset({"recognizer", "content_training"})

    system: Literal["takin"] = "takin"
    features: str = Field(
        "nano", description="name in `features`: the self-supervised ones; the paper's: WavLM, layer 6"
    )
    mels: str = Field("mel", description="name in `features`, with encoder log-mel: what the flow makes")
    phones: str = Field(
        "phones", description="name in `features`, of kind phonetic; empty: without (the paper's ablation)"
    )
    speaker_embeddings: str = Field(
        "voice", description="name in `features`, of kind speaker; empty: without (the paper's ablation)"
    )
    speaker_encoder: str = Field(
        "ge2e",
        description="encoder of the reference's speaker embedding at conversion: the one behind `speaker_embeddings`",
    )
    vocoder: str = Field(
        "vocoder-mel", description="experiment that trains a vocoder on these mels, bundled:NAME, or a model folder"
    )
    recognizer: Literal["pretrained", "trained"] = Field(
        "pretrained",
        description="pretrained: what `phones` names needs no training; trained: it comes from a Conformer that stage ppg "
        "trains first",
    )
    content_training: Literal["codec", "joint"] = Field(
        "codec",
        description="codec: the content encoder is trained as a codec first; joint: with the flow only, one stage",
    )
    sampler: Literal["euler", "midpoint"] = Field("euler", description="of the flow's equation")
    sampling_steps: int = Field(10, ge=1, le=1000, description="of the sampler (the paper: 5 to 20)")
    guidance: float = Field(0.7, ge=0, description="weight w of classifier-free guidance; 0: the condition alone")
    reference_s: float = Field(
        0.0, ge=0, description="seconds of the target's speech that condition a conversion; 0: all that the trial gives"
    )
    seed: int = Field(0, ge=0, description="of the noise, beside the trial's name")
    ppg: PpgStage = Field(
        default_factory=PpgStage, description="stage before all others, where `recognizer` is trained"
    )
    content: ContentStage = Field(
        default_factory=ContentStage, description="stage 1, unless `content_training` is joint"
    )
    flow: FlowStage = Field(default_factory=FlowStage, description="stage 2, or the only one")

    @property
    def stages(self) -> tuple[str, ...]:
        """Training stages in order."""
        first = ("ppg",) if self.recognizer == "trained" else ()
        return (*first, "content", "flow") if self.content_training == "codec" else (*first, "flow")

    def training_inputs(self, stage: str) -> Inputs:
        """Stage ppg reads audio alone; the others read features with the auxiliary ones; the flow, what stage 1 trained."""
        start = start_reference(self.stage_options(stage), stage)
        if stage == "ppg":
            return {"audio": Variant("audio"), **start}
        inputs: Inputs = {"features": Variant("features", self.features)}
        if stage == "content":
            inputs["audio"] = Variant("audio")
        else:
            inputs["mels"] = Variant("features", self.mels)
            if self.content_training == "codec":
                inputs["content"] = self.model("content")
        return inputs | self._auxiliary(("phones", "speaker_embeddings")) | start

    def conversion_inputs(self) -> Inputs:
        """Features and phones of the source, the flow (it holds the content encoder), and a vocoder of mels."""
        inputs: Inputs = {"features": Variant("features", self.features), "flow": self.model("flow")}
        return inputs | self._auxiliary(("phones",)) | {"vocoder": vocoder_reference(self.vocoder)}

    def _auxiliary(self, roles: tuple[str, ...]) -> Inputs:
        """Auxiliary features by role, where the options name some."""
        return {role: Variant("features", name) for role in roles if (name := getattr(self, role))}

    def external_models(self) -> Iterator[tuple[str, str]]:
        """The speaker encoder may come from a hub."""
        if self.speaker_embeddings:
            yield "speaker_encoder", self.speaker_encoder

    def verifiers(self) -> Iterator[tuple[str, str]]:
        """The encoder of the speaker embeddings."""
        if self.speaker_embeddings:
            yield self.speaker_encoder, "reads voices through it"

    def sampling(self) -> Mapping[str, Any]:
        """A midpoint step calls the U-Net twice, and guidance doubles the calls."""
        calls = self.sampling_steps * (2 if self.sampler == "midpoint" else 1) * (2 if self.guidance else 1)
        heard = f"{self.reference_s:g} s" if self.reference_s else "all of the reference"
        options = f"w = {self.guidance:g}, {heard}"
        return {
            "stage": "flow",
            "options": options,
            "sampler": self.sampler,
            "steps": self.sampling_steps,
            "calls": calls,
        }

    @pydantic.model_validator(mode="after")
    def _has_content(self) -> TakinExperiment:
        if not self.phones and not (self.flow.ssl and self.content.ssl):
            raise ValueError("phones: empty: with ssl: false nothing is left of the content; keep one of the two")
        if self.recognizer == "trained" and not self.phones:
            raise ValueError(
                "recognizer: trained: phones is empty: name the features that it makes (encoder: trained:NAME)"
            )
        return self
