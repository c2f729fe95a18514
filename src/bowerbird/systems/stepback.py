"""Stepback: "Enhanced Disentanglement for Voice Conversion via Multi-Task Learning" (arXiv 2501.15613).

What is published: the idea. An encoder and a decoder on spectrograms are prepared by reconstruction; a speaker classifier
learns on speech features; then small stages alternate, of robustness and of a *dual flow*: one latent goes back to its
own speaker and on to another, and a constraint called the self-destructive amendment, which pushes the conversion away
from the source, optimises the content encoder. Networks, losses and values below are the closest published recipe's (Chou,
Yeh, Lee and Lee 2018, arXiv 1804.02812) where that has them, and ours where it has not.

    x         spectrogram of the source, speaker s;  t another speaker of the batch
    z         E(x), the content;  D(z, s) the decoder;  p(. | x) the classifier C, frozen after its stage

    stage 1   preparation   L_rec   = |D(E(x), s) - x|
    stage 2   classifier    L_clf   = -log p(s | x)  +  w L_clf of D(E(x), s), both networks of stage 1 frozen
    stage 3   dual flow     x_s = D(z, s), x_t = D(z, t), from one z
                            L_rec   = |x_s - x|                      encoder and decoder
                            L_to    = -log p(t | x_t)                encoder and decoder
                            L_away  = -log (1 - p(s | x_t))          encoder and decoder
                            L_amend = max(0, m - |x_t - x|)          encoder alone
              robustness    L_rob   = |D(E(x~), s) - x|, x~ noisy    encoder alone; each `robustness_every`-th step
    convert   vocoder(D(E(x), t))

From 2018: the networks (`nn/multitarget.py`: convolution bank, instance normalisation, GRU, the speaker added before each
layer of the decoder), the L1, Adam (1e-4; 0.5, 0.9), gradients of norm 5 at most, batch 32, crops of 1.6 s, dropout.
Ours: all of stage 3's formulae and weights. L_amend maximises the distance from source to conversion and is bounded: it is
at most m, and beyond the margin m both it and its gradient are zero. The decoder's learning rate is a tenth of the
encoder's. Noise is added in the power domain, on half of the items with a band limit. A voice is the embedding of some of
its speech by a frozen verifier (`reference`; then C is a cosine classifier: it answers an embedding, and scores are
cosines to the voices of the batch), or a vector learned for each training speaker (`table`, as published). Crops and z are
at 50 and 12.5 frames a second instead of 80 and 10.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bowerbird.artifacts import BowerbirdError
from bowerbird.audio import HOP
from bowerbird.config import bundled
from bowerbird.encoders.speaker import embed_voices, load_speaker_judge
from bowerbird.experiments import ClassifierStage, DualFlowStage, PreparationStage, SpectrogramStage
from bowerbird.nn.mel import LogMagnitude, LogMel, griffin_lim
from bowerbird.nn.multitarget import Classifier, Decoder, Encoder
from bowerbird.systems.base import Batch, Conversion, DataNeeds, StageInputs, System, TrainingStage, Utterance
from bowerbird.systems.corruption import corrupt, degrade
from bowerbird.systems.vocoder import Vocoder, load_vocoder, load_weights, read_model_config

FRAMES_PER_SECOND = 50
BINS = 513  # of log-magnitude spectra
SIZES = ("channels", "latent", "bank", "bank_channels", "halvings", "dropout")


# ---------------------------------------------------------------------------------------------------- encoder, decoder
class Autoencoder(nn.Module):
    """E and D, and the speakers' vectors where they are learned."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        bands, channels, latent, halvings = (config[k] for k in ("feature_dim", "channels", "latent", "halvings"))
        bank = (config["bank"], config["bank_channels"])
        self.encoder = Encoder(bands, channels, latent, *bank, halvings, config["dropout"])
        self.decoder = Decoder(bands, channels, latent, halvings, config["speaker_dim"])
        names = config["names"]
        self.table = nn.Embedding(len(names), config["speaker_dim"]) if names else None

    def forward(self, spectrogram: Tensor, voice: Tensor) -> Tensor:
        """D(E(x), s): ``(batch, frames, bands)`` and ``(batch, speaker_dim)`` to ``(batch, frames, bands)``."""
        return self.decoder(self.encoder(spectrogram), voice, spectrogram.shape[1])


def load_autoencoder(folder: Path) -> tuple[Autoencoder, dict[str, Any]]:
    """A trained encoder and decoder, frozen, and their config."""
    config = read_model_config(folder)
    autoencoder = Autoencoder(config)
    load_weights(autoencoder, folder)
    return autoencoder.eval().requires_grad_(False), config


class Voices(nn.Module):
    """Who a batch is spoken by, as vectors ``(batch, speaker_dim)``: learned ones, or what a frozen verifier hears.

    A table answers the mean of its vectors for speakers that it does not know (validation).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.reference = config["speakers"] == "reference"
        if self.reference:
            self.verifier = load_speaker_judge(config["speaker_encoder"]).requires_grad_(False)

    def forward(self, batch: Batch, autoencoder: Autoencoder) -> Tensor:
        if self.reference:
            waves = [w[: HOP * int(n)] for w, n in zip(batch.prompt_audio, batch.prompt_frames, strict=True)]
            return embed_voices(self.verifier, waves)
        known = (batch.speaker >= 0)[:, None]
        learned = autoencoder.table(batch.speaker.clamp_min(0))
        return torch.where(known, learned, autoencoder.table.weight.mean(dim=0))


# ----------------------------------------------------------------------------------------------------------- classifier
@dataclass(frozen=True)
class Candidates:
    """Whom the classifier chooses from, and who it is."""

    labels: Tensor  # (batch,) int64: the right candidate of each item
    prototypes: Tensor | None  # (candidates, speaker_dim) of unit length: a voice each; None: the table's speakers

    @classmethod
    def of(cls, batch: Batch, voices: Tensor, reference: bool) -> Candidates:
        """The speakers of the batch, each the mean of what is known of their voice; or all those of the table."""
        if not reference:
            return cls(batch.speaker, None)
        names, labels = batch.speaker.unique(return_inverse=True)
        sums = torch.zeros(len(names), voices.shape[1], device=voices.device).index_add(0, labels, voices.float())
        return cls(labels, F.normalize(sums, dim=1))


def log_probabilities(classifier: Classifier, x: Tensor, candidates: Candidates, scale: float) -> Tensor:
    """log p(. | x) ``(batch, candidates)``; with prototypes, of ``scale`` times the cosines to them."""
    scores = classifier(x).float()
    if candidates.prototypes is not None:
        scores = scale * F.normalize(scores, dim=1) @ candidates.prototypes.T
    return scores.log_softmax(dim=1)


def another(speaker: Tensor) -> Tensor:
    """For each item the place of the next one of another speaker, ``(batch,)``; its own where all are of one."""
    count = len(speaker)
    places = torch.arange(count, device=speaker.device)
    following = (places[:, None] + places) % count  # row i: i, i + 1, ...
    differs = speaker[following] != speaker[:, None]
    return following[places, differs.int().argmax(dim=1)]


# ----------------------------------------------------------------------------------------------------------- stages 1, 2
class SpectrogramTraining(TrainingStage):
    """What the three stages share: data, learning rate, Adam, starting weights."""

    options: SpectrogramStage
    config: dict[str, Any]  # of the result

    @classmethod
    def data_needs(cls, options: SpectrogramStage) -> DataNeeds:
        length = round(options.reference_s * FRAMES_PER_SECOND)
        return DataNeeds(options.segment_frames, audio=True, speakers=True, prompt_frames=(length, length))

    @classmethod
    def build(cls, options: Any, inputs: StageInputs) -> Self:
        return cls(options, inputs)

    def __init__(self, options: Any, inputs: StageInputs) -> None:
        self.options, self.inputs = options, inputs

    def adam(self, module: nn.Module, rate: float = 1.0) -> torch.optim.Adam:
        """Adam of a module, at ``rate`` times the learning rate."""
        betas = (self.options.beta1, self.options.beta2)
        return torch.optim.Adam(
            [{"params": list(module.parameters()), "rate": rate}], self.options.learning_rate, betas
        )

    def start(self) -> None:
        """Take the weights of a model of the same architecture, where `start_from` names one."""
        if not self.options.start_from:
            return
        folder = Path(bundled(self.options.start_from))
        theirs = read_model_config(folder)
        for key, ours in self.config.items():
            if key not in ("features", "dropout", "scale") and theirs.get(key) != ours:
                raise BowerbirdError(
                    f"start_from: {self.options.start_from}: its {key} is {theirs.get(key)!r}, this stage's is {ours!r}; "
                    "weights can only start a model of the same architecture"
                )
        load_weights(self.exported, folder)

    def learning_rate(self, step: int) -> float:
        return self.options.learning_rate * self.options.lr_decay ** (step // self.options.lr_decay_steps)

    def updates(self, step: int) -> tuple[str, ...]:
        return tuple(self.optimizers)

    def architecture(self) -> dict[str, Any]:
        return self.config


class PreparationTraining(SpectrogramTraining):
    """Stage 1: L_rec."""

    def __init__(self, options: PreparationStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        reference = options.speakers == "reference"
        self.config = {
            "system": "stepback",
            "part": "autoencoder",
            "feature_dim": inputs.feature_dim,
            "features": dict(inputs.features),
            "speakers": options.speakers,
            "speaker_encoder": options.speaker_encoder if reference else "",
            "names": [] if reference else list(inputs.speakers),
            **{key: getattr(options, key) for key in SIZES},
        }
        self.voices = Voices(self.config)
        self.config["speaker_dim"] = voice_dim(self.voices.verifier) if reference else options.speaker_dim
        self.autoencoder = Autoencoder(self.config)
        self.modules = {"autoencoder": self.autoencoder, "voices": self.voices}
        self.optimizers = {"autoencoder": self.adam(self.autoencoder)}
        self.start()

    def forward(self, batch: Batch) -> Tensor:
        """D(E(x), s)."""
        return self.autoencoder(batch.features, self.voices(batch, self.autoencoder))

    def losses(self, update: str, batch: Batch, output: Tensor, step: int) -> dict[str, Tensor]:
        loss = F.l1_loss(output.float(), batch.features)
        return {"total": loss, "reconstruction": loss}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """L_rec of one whole utterance."""
        return {"reconstruction": F.l1_loss(self.forward(batch).float(), batch.features)}, None

    @property
    def exported(self) -> nn.Module:
        return self.autoencoder


class ClassifierTraining(SpectrogramTraining):
    """Stage 2: L_clf on recordings, and on what stage 1 makes of them, as it will be asked about such."""

    def __init__(self, options: ClassifierStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.autoencoder, prepared = load_autoencoder(inputs.models["preparation"])
        self.voices = Voices(prepared)
        outputs = prepared["speaker_dim"] if self.voices.reference else len(prepared["names"])
        keys = ("system", "feature_dim", "speakers", "speaker_encoder", "names")
        self.config = {
            **{key: prepared[key] for key in keys},
            "part": "classifier",
            "outputs": outputs,
            "channels": options.channels,
            "dropout": options.dropout,
            "scale": options.scale,
        }
        self.classifier = build_classifier(self.config)
        self.modules = {"classifier": self.classifier, "autoencoder": self.autoencoder, "voices": self.voices}
        self.optimizers = {"classifier": self.adam(self.classifier)}
        self.start()

    def forward(self, batch: Batch) -> Tensor:
        """The voices."""
        return self.voices(batch, self.autoencoder)

    def losses(self, update: str, batch: Batch, output: Tensor, step: int) -> dict[str, Tensor]:
        who = Candidates.of(batch, output, self.voices.reference)
        heard = log_probabilities(self.classifier, batch.features, who, self.options.scale)
        losses = {"recordings": F.nll_loss(heard, who.labels), "accuracy": right(heard, who.labels)}
        total, weight = losses["recordings"], self.options.reconstructed_weight
        if weight:
            with torch.no_grad():
                made = self.autoencoder(batch.features, output).float()
            heard = log_probabilities(self.classifier, made, who, self.options.scale)
            losses["reconstructions"] = F.nll_loss(heard, who.labels)
            total = total + weight * losses["reconstructions"]
        return {"total": total, **losses}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """Cosine between what is answered and the voice (`reference`); the largest probability (`table`)."""
        answer = self.classifier(batch.features).float()
        if self.voices.reference:
            return {"cosine": F.cosine_similarity(answer, self.forward(batch)).mean()}, None
        return {"confidence": answer.softmax(dim=1).amax(dim=1).mean()}, None

    @property
    def exported(self) -> nn.Module:
        return self.classifier


def build_classifier(config: Mapping[str, Any]) -> Classifier:
    """The classifier that its stage's ``config.json`` describes."""
    return Classifier(config["feature_dim"], config["channels"], config["outputs"], config["dropout"])


def right(log_probability: Tensor, labels: Tensor) -> Tensor:
    """Share of items whose most probable candidate is the right one."""
    return (log_probability.argmax(dim=1) == labels).float().mean()


def voice_dim(verifier: nn.Module) -> int:
    """Dimensions of a verifier's embedding."""
    return int(embed_voices(verifier, [torch.zeros(32000)]).shape[1])


# -------------------------------------------------------------------------------------------------------------- stage 3
class Flow:
    """What the two updates of a step share: the voices, and the one content z of both flows, encoded when first asked for."""

    def __init__(self, encoder: Encoder, spectrogram: Tensor, voices: Tensor) -> None:
        self._encoder, self._spectrogram, self.voices = encoder, spectrogram, voices

    @cached_property
    def content(self) -> Tensor:
        return self._encoder(self._spectrogram)


class DualFlowTraining(SpectrogramTraining):
    """Stage 3: small stages in turn. The encoder moves in each, the decoder (slower) in those of the dual flow.

    The loop differentiates the losses of an update with respect to that optimiser's parameters alone; so L_amend and L_rob,
    which only the update "encoder" has, reach the encoder through a decoder that stands still. C is frozen throughout.
    """

    options: DualFlowStage

    def __init__(self, options: DualFlowStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.autoencoder, self.config = load_autoencoder(inputs.models["preparation"])
        self.config.pop("identity", None)
        if self.config["feature_dim"] != inputs.feature_dim:
            raise BowerbirdError(
                f"--models: preparation: it reads {self.config['feature_dim']} bands, the shards have "
                f"{inputs.feature_dim}; train all stages on the same features"
            )
        self.autoencoder.requires_grad_(True)
        judge = read_model_config(inputs.models["classifier"])
        for key in ("feature_dim", "speakers", "speaker_encoder", "names"):
            if judge[key] != self.config[key]:
                raise BowerbirdError(
                    f"--models: classifier: its {key} differ from the preparation's; train it after this preparation"
                )
        self.scale, self.classifier = judge["scale"], build_classifier(judge)
        load_weights(self.classifier, inputs.models["classifier"])
        self.classifier.eval().requires_grad_(False)
        self.voices = Voices(self.config)
        self.modules = {"autoencoder": self.autoencoder, "classifier": self.classifier, "voices": self.voices}
        outward = nn.ModuleList([self.autoencoder.decoder])
        if self.autoencoder.table is not None:
            outward.append(self.autoencoder.table)
        self.optimizers = {"encoder": self.adam(self.autoencoder.encoder)}
        self.optimizers["decoder"] = self.adam(outward, options.decoder_rate)
        self.start()

    def is_robustness(self, step: int) -> bool:
        """Whether the small stage of this step is the one of robustness."""
        every = self.options.robustness_every
        return bool(every) and step % every == 0

    def updates(self, step: int) -> tuple[str, ...]:
        return ("encoder",) if self.is_robustness(step) else ("encoder", "decoder")

    def ramp(self, step: int, start: int, length: int) -> float:
        """0 up to step ``start``, then rising to 1 over ``length`` steps."""
        since = step - start
        return 0.0 if since <= 0 else min(1.0, since / length) if length else 1.0

    def forward(self, batch: Batch) -> Flow:
        return Flow(self.autoencoder.encoder, batch.features, self.voices(batch, self.autoencoder))

    def losses(self, update: str, batch: Batch, output: Flow, step: int) -> dict[str, Tensor]:
        if self.is_robustness(step):
            return self._robustness(batch, output.voices.detach())
        if update == "encoder":
            return self._dual_flow(batch, output.content, output.voices.detach(), step, amended=True)
        return self._dual_flow(batch, output.content.detach(), output.voices, step, amended=False)

    def _robustness(self, batch: Batch, voices: Tensor) -> dict[str, Tensor]:
        """L_rob: what the encoder hears in noise is decoded to what was said without."""
        low, high = self.options.snr_min_db, self.options.snr_max_db
        heard = self.autoencoder.encoder(degrade(batch.features, low, high))
        made = self.autoencoder.decoder(heard, voices, batch.features.shape[1])
        loss = F.l1_loss(made.float(), batch.features)
        return {"total": self.options.robustness_weight * loss, "robustness": loss}

    def _dual_flow(self, batch: Batch, content: Tensor, voices: Tensor, step: int, amended: bool) -> dict[str, Tensor]:
        """L_rec, L_to, L_away, and L_amend where ``amended``, with their weights at ``step``."""
        options, x = self.options, batch.features
        other = another(batch.speaker)
        both = self.autoencoder.decoder(content.repeat(2, 1, 1), torch.cat([voices, voices[other]]), x.shape[1])
        own, converted = both.float().chunk(2)  # x_s, x_t: (batch, frames, bands)
        losses = {"reconstruction": F.l1_loss(own, x)}
        total = options.reconstruction_weight * losses["reconstruction"]
        has_other = (batch.speaker[other] != batch.speaker).float()  # an item without another speaker has one flow only
        rise = self.ramp(step, options.conversion_from, options.conversion_ramp)
        if rise and (options.toward_weight or options.away_weight):
            who = Candidates.of(batch, voices, self.voices.reference)
            heard = log_probabilities(self.classifier, converted, who, self.scale)
            toward = -heard.gather(1, who.labels[other, None])[:, 0]
            away = -anyone_but(heard, who.labels)
            losses |= {"toward": (has_other * toward).mean(), "away": (has_other * away).mean()}
            losses["heard_as_target"] = right(heard, who.labels[other])
            total = total + rise * (options.toward_weight * losses["toward"] + options.away_weight * losses["away"])
        distance = (converted - x).abs().mean(dim=(1, 2))
        losses["distance"] = distance.detach().mean()
        if amended:
            losses["amendment"] = (has_other * F.relu(options.margin - distance)).mean()
            rise = self.ramp(step, options.amendment_from, options.amendment_ramp)
            total = total + rise * options.amendment_weight * losses["amendment"]
        return {"total": total, **losses}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """L_rec of one whole utterance, clean and with noise at the middle of its range."""
        voices, x = self.voices(batch, self.autoencoder), batch.features
        level = (self.options.snr_min_db + self.options.snr_max_db) / 2
        return {
            "reconstruction": F.l1_loss(self.autoencoder(x, voices).float(), x),
            "robustness": F.l1_loss(self.autoencoder(degrade(x, level, level), voices).float(), x),
        }, None

    @property
    def exported(self) -> nn.Module:
        return self.autoencoder


def anyone_but(log_probability: Tensor, labels: Tensor) -> Tensor:
    """log (1 - p(label)) of each item, ``(batch,)``: the others' probabilities, summed; a lone candidate gives log 1e-6."""
    hidden = log_probability.scatter(1, labels[:, None], float("-inf"))
    lowest = torch.full_like(log_probability[:, :1], -13.8)
    return torch.cat([hidden, lowest], dim=1).logsumexp(dim=1)


STAGES = {"preparation": PreparationTraining, "classifier": ClassifierTraining, "dual_flow": DualFlowTraining}


# ----------------------------------------------------------------------------------------------------------- conversion
class Stepback(System):
    """vocoder(D(E(x), t)), t heard in the references or looked up in the table."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        config: Mapping[str, Any],
        vocoder: Vocoder | None,
        damage: str = "clean",
        level: float = 0.0,
    ) -> None:
        self.autoencoder, self.config, self.vocoder = autoencoder, config, vocoder
        self.damage, self.level = damage, level
        self.voices = Voices(config)

    @classmethod
    def load(cls, experiment: Any, models: Mapping[str, Path], device: torch.device) -> Self:
        drawn = experiment.synthesis == "griffin-lim"
        for needed in (experiment.uses,) if drawn else (experiment.uses, "vocoder"):
            if needed not in models:
                raise BowerbirdError(f"--models: Stepback needs {needed}=FOLDER")
        autoencoder, config = load_autoencoder(models[experiment.uses])
        if drawn and config["feature_dim"] != BINS:
            raise BowerbirdError(
                f"synthesis: griffin-lim: needs features of {BINS} bins (encoder: log-magnitude), these have "
                f"{config['feature_dim']}; use a vocoder for mels"
            )
        vocoder = None if drawn else load_vocoder(models["vocoder"], device)
        if vocoder and vocoder.input_dim != config["feature_dim"]:
            raise BowerbirdError(
                f"--models: vocoder: it reads {vocoder.input_dim} dimensions, Stepback makes {config['feature_dim']}; name "
                "one that was trained on these features"
            )
        system = cls(autoencoder.to(device), config, vocoder, experiment.input, experiment.input_level)
        system.voices.to(device)
        return system

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` in the voice of ``references``; with a table, of the trial's target speaker, by name."""
        started = time.perf_counter()
        if source.features is None or not len(source.features):
            raise BowerbirdError(f"{source.utt_id}: has no features; Stepback needs them")
        x = source.features.float()
        if self.damage != "clean":
            wave = torch.from_numpy(corrupt(source.wave.numpy(), self.damage, self.level))
            x = (LogMagnitude if x.shape[1] == BINS else LogMel)()(wave[None])[0, : len(x)].to(x.device)
        converted = self.autoencoder(x[None], self._voice(references, trial, x.device))[0]
        done = time.perf_counter()
        wave = self.vocoder.vocode(converted) if self.vocoder else griffin_lim(converted).cpu()
        return Conversion(
            wave, converted, {"seconds": {"stepback": done - started, "vocoding": time.perf_counter() - done}}
        )

    def _voice(self, references: list[Utterance], trial: Mapping[str, Any] | None, device: torch.device) -> Tensor:
        """The target ``(1, speaker_dim)``."""
        if self.voices.reference:
            heard = embed_voices(self.voices.verifier, [r.wave.to(device) for r in references])
            return F.normalize(heard.mean(dim=0, keepdim=True), dim=1)
        name = str(trial["target_speaker"]) if trial else ""
        if name not in self.config["names"]:
            raise BowerbirdError(
                f"target speaker {name!r}: not among the {len(self.config['names'])} that this model learned; with "
                "preparation.speakers: table the trials must be of split train (trials.split); reference takes any voice"
            )
        return self.autoencoder.table(torch.tensor([self.config["names"].index(name)], device=device))
