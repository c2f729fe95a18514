"""What an experiment is, for every system: its options, its stages, and what each stage reads.

Torch-free on purpose: the workflow reads this at every start. The models behind these options are in
``bowerbird.systems``, one file a paper.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.stages import GanStage, PpgStage, Section, StageOptions, VocoderStage


class ConverterStage(StageOptions):
    """Palindromic VC, stage 2: the Transformer that learns the way back from retrieved features to the target's own."""

    layers: int = Field(6, ge=1, description="of the Transformer")
    heads: int = Field(16, ge=1, description="of attention")
    width: int = Field(1024, ge=8, description="of the Transformer; 1024 with 6 layers: 77 M parameters")
    feedforward: int = Field(4096, ge=8, description="width of the feed-forward layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="after attention and in the feed-forward layers")
    conditioning: Literal["concat", "cross_attention"] = Field(
        "concat",
        description="concat: prompt and input are one sequence; cross_attention: the input looks at the prompt",
    )
    segment_frames: int = Field(150, ge=4, description="frames of a training crop (20 ms each)")
    prompt_min_s: float = Field(3.0, gt=0, description="shortest prompt; lengths are uniform")
    prompt_max_s: float = Field(10.0, gt=0, description="longest prompt")
    feature_weight: float = Field(1.0, ge=0, description="of the L1 loss on features")
    speaker_weight: float = Field(0.1, ge=0, description="of the speaker loss on the converted wave (lambda_spk)")
    hidden_weight: float = Field(1.0, ge=0, description="of the L1 of hidden maps inside the speaker loss (lambda_hid)")
    speaker_from: int = Field(0, ge=0, description="step at which the speaker loss joins")
    speaker_warmup: int = Field(1000, ge=0, description="steps over which its weight rises to speaker_weight")
    speaker_encoder: str = Field(
        "ge2e",
        description="ge2e: the weights inside the resemblyzer package; or a folder or hub id with ECAPA-TDNN weights "
        "in speechbrain's format (speechbrain/spkrec-ecapa-voxceleb)",
    )
    learning_rate: float = Field(1.0e-4, gt=0, description="AdamW's highest")
    lr_warmup: int = Field(1000, ge=0, description="steps of linear rise")
    lr_decay: float = Field(0.999, gt=0, le=1, description="factor each `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.98, ge=0, lt=1, description="AdamW")
    weight_decay: float = Field(0.01, ge=0, description="AdamW")
    start_from: str = Field("", description="bundled:NAME or a model folder whose weights start the converter")

    @pydantic.model_validator(mode="after")
    def _prompt_range(self) -> ConverterStage:
        if self.prompt_max_s < self.prompt_min_s:
            raise ValueError(
                f"converter.prompt_max_s: {self.prompt_max_s:g}: shorter than prompt_min_s = {self.prompt_min_s:g}"
            )
        if self.width % (2 * self.heads):
            raise ValueError(f"converter.heads: {self.heads}: twice the heads must divide width = {self.width}")
        return self


class RevocoderStage(GanStage):
    """Palindromic VC, stage 3: a vocoder trained on what the converter makes of retrieved features."""

    generator: Literal["hifigan", "hifigan-nano", "vocos-nano", "sourcefilter-nano"] = Field(
        "hifigan", description="as in stage 1"
    )
    losses: Literal["knnvc", "palindromic"] = Field(
        "palindromic",
        description="palindromic: MR-STFT + LSGAN, as in stage 1; knnvc: 45 mel + feature matching + LSGAN",
    )
    prompt_min_s: float = Field(3.0, gt=0, description="shortest prompt the converter gets; lengths are uniform")
    prompt_max_s: float = Field(10.0, gt=0, description="longest prompt")
    context_frames: int = Field(
        150, ge=4, description="frames that the frozen converter sees around the crop the vocoder learns on"
    )

    @pydantic.model_validator(mode="after")
    def _crop_inside(self) -> RevocoderStage:
        if self.context_frames < self.segment_frames:
            raise ValueError(
                f"revocoder.context_frames: {self.context_frames}: less than segment_frames = {self.segment_frames}"
            )
        if self.prompt_max_s < self.prompt_min_s:
            raise ValueError(
                f"revocoder.prompt_max_s: {self.prompt_max_s:g}: shorter than prompt_min_s = {self.prompt_min_s:g}"
            )
        return self


class ResynthesisStage(GanStage):
    """QR-VC: disentangler and HiFi-GAN end to end."""

    generator: Literal["hifigan-1024", "vocos-nano", "sourcefilter-nano", "hifigan-nano"] = Field(
        "hifigan-1024",
        description="hifigan-1024: QR-VC's, for features of 1024 dimensions; the others train on two cores",
    )
    losses: Literal["qrvc"] = Field("qrvc", description="LSGAN + 2 feature matching + 20 mel")
    segment_frames: int = Field(28, ge=4, description="frames of the crop the generator learns on (20 ms each)")
    context_frames: int = Field(150, ge=4, description="frames around it, of which the residual's mean is the speaker")
    variation_dim: int = Field(8, ge=0, description="channels of speaking variation; 0: without compensation")
    assignment: Literal["cosine", "euclidean"] = Field("cosine", description="how a frame's centroid is looked up")

    @pydantic.model_validator(mode="after")
    def _crop_inside(self) -> ResynthesisStage:
        if self.context_frames < self.segment_frames:
            raise ValueError(
                f"resynthesis.context_frames: {self.context_frames}: less than segment_frames = {self.segment_frames}"
            )
        return self


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


class ExperimentBase(Section):
    """Options and structure common to all experiments."""

    stages: ClassVar[tuple[str, ...]] = ()  # training stages in order
    trains_on: ClassVar[dict[str, tuple[str, ...]]] = {}  # stage -> artifacts it reads
    converts_with: ClassVar[tuple[str, ...]] = ()  # what conversion reads besides manifest, audio and trials

    reuse: dict[str, str] = Field(
        default_factory=dict, description="stage -> experiment whose model is taken instead of training one"
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


class KnnvcExperiment(ExperimentBase):
    """kNN-VC (Baas et al. 2023): every source frame is replaced by the mean of its k nearest target frames."""

    converts_with: ClassVar = ("features", "vocoder")

    system: Literal["knnvc"] = "knnvc"
    features: str = Field("nano", description="name in `features`")
    vocoder: str = Field("vocoder", description="experiment that trains the vocoder, or bundled:NAME")
    k: int = Field(4, ge=1, description="neighbours averaged")
    retrieval: Literal["nearest", "random"] = Field(
        "nearest", description="random: the control that ignores the source's content"
    )


class PalindromicExperiment(ExperimentBase):
    """Palindromic VC: trained on pairs that kNN retrieval makes, converts without retrieval."""

    stages: ClassVar = ("converter", "revocoder")
    trains_on: ClassVar = {
        "converter": ("features", "audio", "pairs", "vocoder"),
        "revocoder": ("features", "audio", "pairs", "stage:converter"),
    }
    converts_with: ClassVar = ("features", "vocoder")

    system: Literal["palindromic"] = "palindromic"
    features: str = Field("nano", description="name in `features`")
    pairs: str = Field("knn4", description="name in `pairs`: the synthetic inputs")
    vocoder: str = Field("vocoder", description="stage 1: experiment that trains the vocoder, or bundled:NAME")
    prompt_s: float = Field(10.0, gt=0, description="seconds of the target's speech that prompt a conversion")
    synthesis: Literal["stage3", "stage1"] = Field(
        "stage3", description="stage3: the vocoder of converted features; stage1: the one of real features"
    )
    converter: ConverterStage = Field(default_factory=ConverterStage, description="stage 2")
    revocoder: RevocoderStage = Field(default_factory=RevocoderStage, description="stage 3")


class QrvcExperiment(ExperimentBase):
    """QR-VC: K-means content, and a quantization residual split linearly into speaker and speaking variation."""

    stages: ClassVar = ("resynthesis",)
    trains_on: ClassVar = {"resynthesis": ("features", "audio", "codebook")}
    converts_with: ClassVar = ("features",)

    system: Literal["qrvc"] = "qrvc"
    features: str = Field("nano", description="name in `features`; the paper's: WavLM-Large, layer 6")
    codebook: str = Field("k256", description="name in `codebook`, fitted on these features")
    resynthesis: ResynthesisStage = Field(default_factory=ResynthesisStage, description="the one training stage")


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


class TakinExperiment(ExperimentBase):
    """Takin-VC: hybrid content, two models of the reference's timbre, and flow matching from noise to mels.

    With `recogniser: trained`, `phones` names features of encoder `phonetic:trained:NAME`, NAME this experiment or another
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
    recogniser: Literal["given", "trained"] = Field(
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
    ppg: PpgStage = Field(default_factory=PpgStage, description="stage before all others, where `recogniser` is trained")
    content: ContentStage = Field(default_factory=ContentStage, description="stage 1, unless `training` is joint")
    flow: FlowStage = Field(default_factory=FlowStage, description="stage 2, or the only one")

    @property
    def stages(self) -> tuple[str, ...]:  # type: ignore[override]
        """Training stages in order."""
        first = ("ppg",) if self.recogniser == "trained" else ()
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
        if self.recogniser == "trained" and not self.phones:
            raise ValueError("recogniser: trained: phones is empty: name the features that it makes (phonetic:trained:NAME)")
        return self


class AnchorExperiment(ExperimentBase):
    """A bound that is scored like a system: what the best and the worst conversion would get."""

    converts_with: ClassVar = ()

    system: Literal["anchor"] = "anchor"
    anchor: Literal["ground-truth", "heldout-target", "random-speaker"] = Field(
        "ground-truth",
        description="the source itself; other speech of the target; speech of a third speaker",
    )


EXPERIMENT_MODELS: tuple[type[ExperimentBase], ...] = (
    VocoderExperiment,
    KnnvcExperiment,
    PalindromicExperiment,
    QrvcExperiment,
    StepbackExperiment,
    TakinExperiment,
    AnchorExperiment,
)
Experiment = Annotated[
    VocoderExperiment
    | KnnvcExperiment
    | PalindromicExperiment
    | QrvcExperiment
    | StepbackExperiment
    | TakinExperiment
    | AnchorExperiment,
    Field(discriminator="system"),
]


def stage_options(experiment: Any, stage: str) -> StageOptions:
    """The options of one training stage of an experiment."""
    return getattr(experiment, stage)


def stage_params(experiment: Any, stage: str) -> str:
    """What one training stage depends on, as one line of JSON: the system and the stage's own options."""
    return _one_line({"system": experiment.system, stage: stage_options(experiment, stage).model_dump()})


def conversion_params(experiment: Any) -> str:
    """What conversion depends on, as one line of JSON: the system and its options outside training stages.

    Names of variants (`features`, `vocoder` ...) are left out: what they name comes as input files.
    """
    names = {"features", "codebook", "pairs", "mels", "phones", "voices", "vocoder", "training", "reuse", "recogniser", "published"}
    names |= {name for name, value in experiment if isinstance(value, StageOptions)}
    return _one_line({k: v for k, v in experiment.model_dump().items() if k not in names})


def _one_line(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
