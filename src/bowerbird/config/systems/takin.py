"""Options of Takin-VC."""

from __future__ import annotations

from typing import ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import GanStage, Section, StageOptions
from bowerbird.config.systems.base import ExperimentBase


class PpgStage(StageOptions):
    """Takin-VC's recognizer: a Conformer of ours, with CTC on the corpus's transcripts; its results are features."""

    symbols: Literal["characters", "words"] = Field(
        "characters",
        description="what is recognized: characters of the transcripts; words: what spaces separate, where transcripts are phones",
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
    learning_rate: float = Field(5.0e-4, gt=0, description="AdamW's highest")
    lr_warmup: int = Field(10000, ge=0, description="steps of linear rise")
    lr_decay: float = Field(0.98, gt=0, le=1, description="factor each `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.98, ge=0, lt=1, description="AdamW")
    weight_decay: float = Field(0.01, ge=0, description="AdamW")
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> PpgStage:
        if self.kernel % 2 == 0:
            raise ValueError(f"ppg.kernel: {self.kernel}: must be odd")
        if self.width % (2 * self.heads):
            raise ValueError(f"ppg.heads: {self.heads}: twice the heads must divide width = {self.width}")
        return self


class HybridContent(Section):
    """Takin-VC's hybrid content encoder: quantized self-supervised features, fused with phonetic ones."""

    codes: int = Field(8200, ge=2, description="of each level of the residual vector quantizer")
    levels: int = Field(1, ge=1, description="of the quantizer")
    code_dim: int = Field(1024, ge=2, description="dimensions of a code")
    content_dim: int = Field(512, ge=2, description="of the encoder's output")
    fusion: Literal["product", "weighted_sum"] = Field(
        "product", description="of the quantized and the phonetic features; the paper's text says both"
    )
    ssl: bool = Field(True, description="false: the phonetic features alone (the paper's ablation)")
    vq_weight: float = Field(0.01, ge=0, description="of the quantizer's commitment (lambda_vq)")


class ContentStage(HybridContent, GanStage):
    """Takin-VC, stage 1: the content encoder with a decoder of waveforms, as a codec; the decoder is for training only.

    `start_from` starts the decoder.
    """

    generator: Literal["hifigan", "hifigan-nano", "vocos-nano", "sourcefilter-nano"] = Field(
        "hifigan", description="the decoder; all but hifigan train on two cores"
    )
    losses: Literal["codec"] = Field("codec", description="45 mel + feature matching + LSGAN + lambda_vq commitment")
    segment_frames: int = Field(32, ge=4, description="frames of a training crop (20 ms each)")


class FlowStage(HybridContent, StageOptions):
    """Takin-VC, stage 2: conditional flow matching with both timbre modules; the content encoder learns on."""

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
    learning_rate: float = Field(1.0e-4, gt=0, description="AdamW's highest")
    lr_warmup: int = Field(1000, ge=0, description="steps of linear rise")
    lr_decay: float = Field(0.999, gt=0, le=1, description="factor each `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.98, ge=0, lt=1, description="AdamW")
    weight_decay: float = Field(0.01, ge=0, description="AdamW")
    start_from: str = Field("", description="bundled:NAME or a model folder whose weights start the model")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> FlowStage:
        if self.prompt_max_s < self.prompt_min_s:
            raise ValueError(
                f"flow.prompt_max_s: {self.prompt_max_s:g}: shorter than prompt_min_s = {self.prompt_min_s:g}"
            )
        for name in ("context_width", "memory_width"):
            if getattr(self, name) % self.heads:
                raise ValueError(f"flow.heads: {self.heads}: does not divide {name} = {getattr(self, name)}")
        return self


class TakinExperiment(ExperimentBase):
    """Takin-VC: hybrid content, two models of the reference's timbre, and flow matching from noise to mels.

    With `recognizer: trained`, `phones` names features of encoder `phonetic:trained:NAME`, NAME this experiment or another
    whose model of stage `ppg` it reuses.
    """

    converts_with: ClassVar = ("features", "phones?", "vocoder")

    system: Literal["takin"] = "takin"
    features: str = Field(
        "nano", description="name in `features`: the self-supervised ones; the paper's: WavLM, layer 6"
    )
    mels: str = Field("mel", description="name in `features`, with encoder log-mel: what the flow makes")
    phones: str = Field(
        "phones", description="name in `features`, with a phonetic encoder; empty: without (the paper's ablation)"
    )
    voices: str = Field(
        "voice", description="name in `features`, with a voice-print encoder; empty: without (the paper's ablation)"
    )
    voice_encoder: str = Field(
        "ge2e", description="what hears the reference's voice print at conversion: the encoder behind `voices`"
    )
    vocoder: str = Field("vocoder-mel", description="experiment that trains a vocoder on these mels, or bundled:NAME")
    recognizer: Literal["given", "trained"] = Field(
        "given",
        description="given: what `phones` names is there; trained: it comes from a Conformer trained here first (stage ppg)",
    )
    training: Literal["codec", "joint"] = Field(
        "codec",
        description="codec: the content encoder is trained as a codec first; joint: with the flow only, one stage",
    )
    sampler: Literal["euler", "midpoint"] = Field("euler", description="of the flow's equation")
    sampling_steps: int = Field(10, ge=1, le=1000, description="of the sampler (the paper: 5 to 20)")
    guidance: float = Field(0.7, ge=0, description="weight w of classifier-free guidance; 0: the condition alone")
    reference_s: float = Field(10.0, gt=0, description="seconds of the target's speech that a conversion hears")
    seed: int = Field(0, ge=0, description="of the noise, beside the trial's name")
    ppg: PpgStage = Field(
        default_factory=PpgStage, description="stage before all others, where `recognizer` is trained"
    )
    content: ContentStage = Field(default_factory=ContentStage, description="stage 1, unless `training` is joint")
    flow: FlowStage = Field(default_factory=FlowStage, description="stage 2, or the only one")

    @property
    def stages(self) -> tuple[str, ...]:  # type: ignore[override]
        """Training stages in order."""
        first = ("ppg",) if self.recognizer == "trained" else ()
        return (*first, "content", "flow") if self.training == "codec" else (*first, "flow")

    @property
    def trains_on(self) -> dict[str, tuple[str, ...]]:  # type: ignore[override]
        """Stage -> artifacts it reads."""
        flow = ("features", "mels", "phones?", "voices?")
        first = ("stage:content",) if self.training == "codec" else ()
        content = ("features", "audio", "phones?", "voices?")
        return {"ppg": ("audio",), "content": content, "flow": (*flow, *first)}

    @pydantic.model_validator(mode="after")
    def _has_content(self) -> TakinExperiment:
        if not self.phones and not (self.flow.ssl and self.content.ssl):
            raise ValueError("phones: empty: with ssl: false nothing is left of the content; keep one of the two")
        if self.recognizer == "trained" and not self.phones:
            raise ValueError(
                "recognizer: trained: phones is empty: name the features that it makes (phonetic:trained:NAME)"
            )
        return self
