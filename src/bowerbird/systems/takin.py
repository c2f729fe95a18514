"""Takin-VC: hybrid content and enhanced timbre, with conditional flow matching (Yang et al., arXiv 2410.01350).

    X_s, X_p     self-supervised features (WavLM, layer 6) and phonetic ones (of a recogniser) of the source
    X~_s         RVQ(X_s): one level, 8200 codes of 1024 dimensions; EMA, k-means start, dead codes restart
    content      c = LeakyReLU_0.2(Conv1d(X~_s)) * X_p          fusion: product, or a weighted sum
    context      query c; keys and values: the reference's mel frames, each with the voice print e beside it;
                 6 layers of cross-attention, 8 heads, 1024 dimensions
    memory       m = mean_t SelfAttention^4(Conv1d(reference's mel)), modulates the U-Net (FiLM)
    flow         v(x_t, t | context, m): a U-Net of 10 layers of 3 residual blocks, width 1280;
                 L = |v - u|^2 + lambda_vq |X_s - X~_s|^2, lambda_vq = 0.01, paths in `nn/flow.py` (sigma = 1e-4)
    stages       1. content: the content encoder with a decoder, as a codec     2. flow: all of the above
                 before them, where asked: ppg, a recogniser of our own whose results are X_p (`recogniser.py`)
    convert      noise -> mel by 5 to 20 Euler steps, with classifier-free guidance; then a vocoder of mels (BigVGAN)

The sizes and losses above are the paper's. What we chose: self-supervised features, phones and mels have one rate (50
a second), so nothing is interpolated (but to the rate of a published vocoder's mels); X_s goes through a linear map
before RVQ, or the commitment would have nothing to move (the features are frozen), and X_p through one where its size
is not the content's; the reference's frames are a set to all that reads them (no positions, the memory's Conv1d is
one frame wide), which does what the paper does by shuffling them; "10 layers" are five down and five up; the codec's
decoder hears the voice print, so that the content need not hold it; e and m of a training item come from other speech
of its speaker.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts import BowerbirdError
from bowerbird.config import bundled
from bowerbird.encoders.speaker import SpeakerEncoder, load_voice_encoder
from bowerbird.encoders.spectral import frame_rate, load_spectral
from bowerbird.experiments import ContentStage, FlowStage
from bowerbird.nn.flow import flow_loss, guided, on_path, sample
from bowerbird.nn.rvq import Quantized, ResidualQuantizer
from bowerbird.nn.timbre import ContextTimbre, TimbreMemory
from bowerbird.nn.unet import UNet
from bowerbird.systems.base import (
    Batch,
    Conversion,
    DataNeeds,
    StageInputs,
    System,
    TrainingStage,
    Utterance,
    adamw,
    warmed_up_rate,
)
from bowerbird.systems.recogniser import PpgTraining
from bowerbird.systems.vocoder import (
    PublishedVocoder,
    Synthesis,
    Vocoder,
    VocoderTraining,
    load_vocoder,
    load_weights,
    read_model_config,
)

FRAMES_PER_SECOND = 50
MEL_MEAN, MEL_SCALE = -5.5, 2.0  # of the logarithm of speech's mel spectrograms: what the flow makes is near N(0, 1)
CONTENT = ("feature_dim", "phones_dim", "codes", "levels", "code_dim", "content_dim", "fusion", "ssl")  # of an encoder
FLOW = (
    "bands", "voice_dim", "context_layers", "context_width", "heads", "memory_layers", "memory_width", "width", "layers",
    "blocks", "dropout",
)  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- content
class HybridContent(nn.Module):
    """X_s and X_p to c ``(batch, T, content_dim)``; without phonetic features, or without the others, the other alone."""

    def __init__(
        self,
        feature_dim: int,
        phones_dim: int,
        codes: int = 8200,
        levels: int = 1,
        code_dim: int = 1024,
        content_dim: int = 512,
        fusion: str = "product",
        ssl: bool = True,
    ) -> None:
        super().__init__()
        self.fusion, self.content_dim = fusion, content_dim
        self.quantizer: ResidualQuantizer | None = None
        if ssl:
            self.inward = nn.Linear(feature_dim, code_dim)
            self.quantizer = ResidualQuantizer(levels, codes, code_dim)
            self.project = nn.Conv1d(code_dim, content_dim, 3, padding=1)
            if feature_dim == code_dim:
                nn.init.eye_(self.inward.weight)
                nn.init.zeros_(self.inward.bias)
        self.phonetic: nn.Module | None = None
        if phones_dim:
            self.phonetic = nn.Linear(phones_dim, content_dim) if phones_dim != content_dim else nn.Identity()
        if self.quantizer is not None and self.phonetic is not None and fusion == "weighted_sum":
            self.balance = nn.Parameter(torch.zeros(content_dim))  # its sigmoid is the weight of the quantized features

    def forward(self, features: Tensor, phones: Tensor | None) -> tuple[Tensor, Tensor]:
        """c and the commitment, a scalar."""
        commitment = features.new_zeros(())
        if self.quantizer is None:
            return self.phonetic(phones), commitment
        quantized: Quantized = self.quantizer(self.inward(features))
        projected = self.project(quantized.vectors.to(features.dtype).transpose(1, 2)).transpose(1, 2)
        content, commitment = F.leaky_relu(projected, 0.2), quantized.commitment
        if self.phonetic is not None:
            spoken = self.phonetic(phones)
            if self.fusion == "product":
                content = content * spoken
            else:
                weight = self.balance.sigmoid()
                content = weight * content + (1 - weight) * spoken
        return content, commitment


# ----------------------------------------------------------------------------------------------------------------- flow
@dataclass(frozen=True)
class Condition:
    """What v is conditioned on; all zeros: on nothing."""

    context: Tensor  # (batch, T, dim)
    memory: Tensor | None  # (batch, dim)

    def dropped(self, which: Tensor) -> Condition:
        """Without condition where ``which`` (batch,) is true."""
        keep = (~which).to(self.context.dtype)
        memory = None if self.memory is None else self.memory * keep[:, None]
        return Condition(self.context * keep[:, None, None], memory)


class Takin(nn.Module):
    """All that is learned but the vocoder: content encoder, both timbre modules, and the field v."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        bands, width, heads = config["bands"], config["context_width"], config["heads"]
        dropout = config["dropout"]
        self.content = HybridContent(**{key: config[key] for key in CONTENT})
        self.context: ContextTimbre | None = None
        condition_dim = self.content.content_dim
        if config["context_layers"]:
            self.context = ContextTimbre(
                condition_dim, bands, config["voice_dim"], width, config["context_layers"], heads, dropout
            )
            condition_dim = width
        self.memory: TimbreMemory | None = None
        memory_dim = 0
        if config["memory_layers"]:
            memory_dim = config["memory_width"]
            self.memory = TimbreMemory(bands, memory_dim, config["memory_layers"], heads, dropout)
        self.field = UNet(
            bands, condition_dim, memory_dim, config["width"], config["layers"], config["blocks"], dropout
        )

    def condition(
        self,
        features: Tensor,
        phones: Tensor | None,
        mels: Tensor,
        mel_frames: Tensor,
        voice: Tensor | None,
        made: int | None = None,
    ) -> tuple[Condition, Tensor]:
        """The condition, and the content encoder's commitment.

        ``features`` (batch, T, dim) and ``phones`` (batch, T, p) of the source; of the reference ``mels``
        (batch, R, bands), normalised, of which ``mel_frames`` (batch,) are speech, and its ``voice`` print (batch, d).
        ``made``: frames of the mel to make, where that is not T; the context is interpolated.
        """
        context, commitment = self.content(features, phones)
        heard = torch.arange(mels.shape[1], device=mels.device) < mel_frames[:, None]  # (batch, R)
        if self.context is not None:
            context = self.context(context, mels, heard, voice)
        if made not in (None, context.shape[1]):
            context = F.interpolate(context.transpose(1, 2), made, mode="linear").transpose(1, 2)
        return Condition(context, None if self.memory is None else self.memory(mels, heard)), commitment

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v(x_t, t | condition): ``x`` (batch, T, bands), ``t`` (batch,)."""
        return self.field(x, t, condition.context, condition.memory)

    def sample(
        self, condition: Condition, noise: Tensor, steps: int = 10, sampler: str = "euler", guidance: float = 0.0
    ) -> Tensor:
        """From ``noise`` (batch, T, bands) to log-mel spectrograms."""
        nothing = condition.dropped(torch.ones(len(noise), dtype=torch.bool, device=noise.device))
        field = guided(lambda x, t: self(x, t, condition), lambda x, t: self(x, t, nothing), guidance)
        return denormalise(sample(field, noise, steps, sampler))


def normalise(mels: Tensor) -> Tensor:
    """Log-mel values to the flow's scale."""
    return (mels - MEL_MEAN) / MEL_SCALE


def denormalise(mels: Tensor) -> Tensor:
    """And back."""
    return mels * MEL_SCALE + MEL_MEAN


def item_generator(*names: object) -> torch.Generator:
    """Random numbers of one item: they depend on what it is called, not on its place in a batch or on the device."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


# -------------------------------------------------------------------------------------------------------------- stage 1
class ContentTraining(VocoderTraining):
    """Stage 1: the content encoder as a codec. The decoder makes the wave of c and the voice print, and is left behind."""

    def __init__(self, options: ContentStage, inputs: StageInputs) -> None:
        self.content_config = content_config(options, inputs)
        super().__init__(options, replace(inputs, feature_dim=options.content_dim))
        self.weights = replace(self.weights, commitment=options.vq_weight)
        self.content = HybridContent(**self.content_config)
        voice_dim = inputs.others.get("voices", {}).get("dim", 0)
        self.voice = nn.Linear(voice_dim, options.content_dim) if voice_dim else None
        self.modules["content"] = self.content
        self.optimizers["generator"].add_param_group({"params": list(self.content.parameters())})
        if self.voice is not None:
            self.modules["voice"] = self.voice
            self.optimizers["generator"].add_param_group({"params": list(self.voice.parameters())})
        self.commitment = torch.zeros(())

    @classmethod
    def data_needs(cls, options: ContentStage) -> DataNeeds:
        return DataNeeds(options.segment_frames, audio=True)

    def prepare(self, batch: Batch) -> Batch:
        """c, with the voice print added to each frame, in the place of the features."""
        hidden, self.commitment = self.content(batch.features, batch.phones)
        if self.voice is not None:
            hidden = hidden + self.voice(batch.voice)[:, None]
        return Batch(batch.utt_ids, hidden, batch.audio)

    def forward(self, batch: Batch) -> Synthesis:
        synthesis = super().forward(batch)
        return replace(synthesis, losses=synthesis.losses | {"commitment": self.commitment})

    @property
    def exported(self) -> nn.Module:
        return self.content

    def architecture(self) -> dict[str, Any]:
        return {**super().architecture(), "system": "takin", **self.content_config}


def content_config(options: ContentStage | FlowStage, inputs: StageInputs) -> dict[str, Any]:
    """What `HybridContent` is built from."""
    dims = {"feature_dim": inputs.feature_dim, "phones_dim": inputs.others.get("phones", {}).get("dim", 0)}
    return {key: dims[key] if key in dims else getattr(options, key) for key in CONTENT}


# -------------------------------------------------------------------------------------------------------------- stage 2
@dataclass(frozen=True)
class Prediction:
    """v and u at x_t, and the content encoder's commitment."""

    velocity: Tensor  # (batch, T, bands)
    target: Tensor
    commitment: Tensor


class FlowTraining(TrainingStage):
    """Stage 2: |v - u|^2 + lambda_vq commitment, the content encoder learning on."""

    def __init__(self, options: FlowStage, inputs: StageInputs) -> None:
        self.options, self.inputs = options, inputs
        self.model = Takin(self.architecture())
        if "content" in inputs.models:
            self._take_content(inputs.models["content"])
        if options.start_from:
            self._start_from(Path(bundled(options.start_from)))
        self.modules = {"model": self.model}
        self.optimizers = {"model": adamw(self.model, options)}

    @classmethod
    def data_needs(cls, options: FlowStage) -> DataNeeds:
        prompts = round(options.prompt_min_s * FRAMES_PER_SECOND), round(options.prompt_max_s * FRAMES_PER_SECOND)
        return DataNeeds(options.segment_frames, mels=True, prompt_frames=prompts)

    @classmethod
    def build(cls, options: FlowStage, inputs: StageInputs) -> Self:
        return cls(options, inputs)

    def _take_content(self, folder: Path) -> None:
        """The content encoder that stage 1 trained."""
        must_agree("flow", "the model of stage `content`", read_model_config(folder), self.architecture(), CONTENT)
        load_weights(self.model.content, folder)

    def _start_from(self, folder: Path) -> None:
        """Take the weights of another model of the same architecture on the same features."""
        theirs = read_model_config(folder)
        must_agree("flow.start_from", self.options.start_from, theirs, self.architecture(), (*CONTENT, *FLOW))
        load_weights(self.model, folder)

    def updates(self, step: int) -> tuple[str, ...]:
        return ("model",)

    def learning_rate(self, step: int) -> float:
        return warmed_up_rate(self.options, step)

    def forward(self, batch: Batch) -> Prediction:
        """One point of each item's path. Its noise, its t, and whether its condition is dropped are drawn by item."""
        data = normalise(batch.mels)
        names = batch.utt_ids if batch.chance is None else [float(chance) for chance in batch.chance]
        noise, t, chance = draw(names, data)
        condition, commitment = self._condition(batch)
        if batch.chance is not None:
            condition = condition.dropped(chance < self.options.condition_dropout)
        x, target = on_path(data, noise, t)
        return Prediction(self.model(x, t, condition), target, commitment)

    def _condition(self, batch: Batch) -> tuple[Condition, Tensor]:
        frames = mel_frames(batch.prompt_frames, frame_rate(self.inputs.others.get("mels", {})))
        return self.model.condition(
            batch.features, batch.phones, normalise(batch.prompt_mels), frames, batch.voice, batch.mels.shape[1]
        )

    def losses(self, update: str, batch: Batch, output: Prediction, step: int) -> dict[str, Tensor]:
        flow = flow_loss(output.velocity, output.target)
        total = flow + self.options.vq_weight * output.commitment
        return {"total": total, "flow": flow, "commitment": output.commitment}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """The loss, and the L1 of the mel that ten Euler steps make of the item's own content and other speech."""
        prediction = self.forward(batch)
        condition, _ = self._condition(batch)
        noise, _, _ = draw(batch.utt_ids, batch.mels)
        made = self.model.sample(condition, noise)
        return {"flow": flow_loss(prediction.velocity, prediction.target), "mel": F.l1_loss(made, batch.mels)}, None

    @property
    def exported(self) -> nn.Module:
        return self.model

    def architecture(self) -> dict[str, Any]:
        inputs, options = self.inputs, self.options
        dims = {role: inputs.others.get(role, {}).get("dim", 0) for role in ("mels", "voices")}
        sizes = {"bands": dims["mels"], "voice_dim": dims["voices"]}
        mels = dict(inputs.others.get("mels", {}))
        return {
            "system": "takin",
            **({"mels": mels} if frame_rate(mels) != FRAMES_PER_SECOND else {}),
            **content_config(options, inputs),
            **{key: sizes[key] if key in sizes else getattr(options, key) for key in FLOW},
            "features": dict(inputs.features),
            "phones": dict(inputs.others.get("phones", {})),
            "voices": dict(inputs.others.get("voices", {})),
        }


def mel_frames(frames: Tensor, rate: float) -> Tensor:
    """Frames of a mel at ``rate`` a second where there are ``frames`` of features."""
    return frames if rate == FRAMES_PER_SECOND else (frames * rate / FRAMES_PER_SECOND).round().long()


def draw(names: Any, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noise of the shape of ``like`` (batch, ...), t and another number in [0, 1) ``(batch,)``: each item's own."""
    noise, numbers = [], []
    for name in names:
        generator = item_generator("training", name)
        noise.append(torch.randn(like.shape[1:], generator=generator))
        numbers.append(torch.rand(2, generator=generator))
    t, chance = torch.stack(numbers).to(like.device).unbind(1)
    return torch.stack(noise).to(like.device), t, chance


def must_agree(
    where: str, name: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], keys: tuple[str, ...]
) -> None:
    """Weights only fit a model of the same architecture."""
    for key in keys:
        if theirs.get(key) != ours[key]:
            raise BowerbirdError(
                f"{where}: {name}: its {key} is {theirs.get(key)!r}, this stage's is {ours[key]!r}; give both the same"
            )


STAGES = {"ppg": PpgTraining, "content": ContentTraining, "flow": FlowTraining}


# ----------------------------------------------------------------------------------------------------------- conversion
class TakinVC(System):
    """Content of the source, timbre of the reference, mel by the flow, wave by the vocoder."""

    def __init__(self, model: Takin, vocoder: Vocoder, voice: SpeakerEncoder | None, experiment: Any) -> None:
        self.model, self.vocoder, self.voice, self.experiment = model.eval(), vocoder, voice, experiment
        self.mel = load_spectral("log-mel" if vocoder.frame_rate == FRAMES_PER_SECOND else "log-mel-24k").to(
            vocoder.device
        )
        self.prints: dict[tuple[str, ...], Tensor] = {}

    @classmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> Self:
        for needed in ("flow", "vocoder"):
            if needed not in models:
                raise BowerbirdError(f"--models: Takin-VC needs {needed}=FOLDER")
        config = read_model_config(models["flow"])
        model = Takin(config)
        load_weights(model, models["flow"])
        vocoder = load_vocoder(models["vocoder"], device)
        rate = frame_rate(config.get("mels", {}))
        if (vocoder.input_dim, vocoder.frame_rate) != (config["bands"], rate):
            heard = "mels at 24 kHz" if isinstance(vocoder, PublishedVocoder) else "features"
            raise BowerbirdError(
                f"--models: vocoder: it reads {heard} of {vocoder.input_dim} dimensions, the flow makes mels of "
                f"{config['bands']} bands, {rate:g} frames a second; name a vocoder that was trained on these mels (a published "
                "BigVGAN wants a flow of its own: mels of encoder log-mel-24k)"
            )
        voice = None
        if config["voice_dim"]:
            voice = load_voice_encoder(experiment.voice_encoder)
            expected = config["voices"].get("weights_sha256", voice.identity.weights_sha256)
            if voice.identity.weights_sha256 != expected:
                raise BowerbirdError(
                    f"voice_encoder: {experiment.voice_encoder}: not the weights behind the voice prints that the model "
                    "was trained on; name the encoder of `voices`"
                )
        return cls(model.to(device), vocoder, voice, experiment)

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` in the voice of the first `reference_s` seconds of ``references``; ``features`` is the mel."""
        started, device, options = time.perf_counter(), self.vocoder.device, self.experiment
        phonetic = self.model.content.phonetic is not None
        for role, tensor, wanted in (("features", source.features, True), ("phones", source.phones, phonetic)):
            if wanted and (tensor is None or not len(tensor)):
                raise BowerbirdError(f"{source.utt_id}: has no {role}; this Takin-VC needs them")
        wave = torch.cat([reference.wave for reference in references])
        wave = wave[: round(options.reference_s * 16_000)].to(device)
        mels = normalise(self.mel([wave])[0])[None]  # (1, R, bands)
        voice = self._voice_print(wave, references)
        features = source.features.float()[None]
        phones = same_length(source.phones.float(), features.shape[1])[None] if phonetic else None
        frames = torch.tensor([mels.shape[1]], device=device)
        made = int(mel_frames(torch.tensor(features.shape[1]), self.vocoder.frame_rate))
        condition, _ = self.model.condition(features, phones, mels, frames, voice, made)
        heard = time.perf_counter()
        name = trial["trial_id"] if trial is not None else source.utt_id
        noise = torch.randn(made, mels.shape[2], generator=item_generator(options.seed, name))
        mel = self.model.sample(
            condition, noise[None].to(device), options.sampling_steps, options.sampler, options.guidance
        )[0]
        done = time.perf_counter()
        converted = self.vocoder.vocode(mel)
        seconds = {"condition": heard - started, "flow": done - heard, "vocoding": time.perf_counter() - done}
        return Conversion(converted, mel, {"seconds": seconds, "reference_s": len(wave) / 16_000})

    def _voice_print(self, wave: Tensor, references: list[Utterance]) -> Tensor | None:
        """e ``(1, d)``; heard once for each set of references."""
        if self.voice is None:
            return None
        key = tuple(reference.utt_id for reference in references)
        if key not in self.prints:
            self.prints[key] = torch.from_numpy(self.voice.embed([wave.cpu()])).to(wave.device)
        return self.prints[key]


def same_length(rows: Tensor, count: int) -> Tensor:
    """``(n, dim)`` cut to ``count`` rows, or with its last one repeated: encoders differ by a frame at the end."""
    return torch.cat([rows[:count], rows[-1:].expand(max(0, count - len(rows)), -1)])
