"""Takin-VC, ready to convert.

Letters: ``T`` frames, ``D`` feature dimension, ``R`` frames of the reference's mel, ``M`` mel bands, ``N`` samples, ``E`` dimension
of the speaker embedding.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.audio import FRAMES_PER_SECOND, SAMPLE_RATE
from bowerbird.config.systems.takin import TakinExperiment
from bowerbird.encoders.speaker import SpeakerEncoder, load_speaker_encoder
from bowerbird.encoders.spectral import frame_rate, load_spectral
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Conversion, System, Utterance, check_models, features_of, phones_of
from bowerbird.systems.takin.network import Reference, Takin, item_generator, mel_frames, normalize, same_length
from bowerbird.systems.vocoder.synthesis import PublishedVocoder, Vocoder, load_vocoder

NAME = "this Takin-VC"  # in errors


class TakinVC(System[TakinExperiment]):
    """Content of the source, timbre of the reference, mel by the flow, wave by the vocoder."""

    def __init__(
        self, model: Takin, vocoder: Vocoder, speaker_encoder: SpeakerEncoder | None, experiment: TakinExperiment
    ) -> None:
        self.model, self.vocoder, self.experiment = model.eval(), vocoder, experiment
        self.speaker_encoder = speaker_encoder
        kind = "log-mel" if vocoder.frame_rate == FRAMES_PER_SECOND else "log-mel-24k"
        self.mel = load_spectral(kind).to(vocoder.device)
        self._embeddings: dict[
            tuple[str | int, ...], Tensor
        ] = {}  # by the references' ids and how much of them was heard

    @classmethod
    def load(cls, experiment: TakinExperiment, models: Mapping[str, Path], device: torch.device) -> Self:
        """The flow (it holds the content encoder), a vocoder of its mels, and the encoder of speaker embeddings."""
        check_models(models, ("flow", "vocoder"), "Takin-VC")
        config = read_model_config(models["flow"])
        model = Takin(config)
        load_weights(model, models["flow"])
        vocoder = load_vocoder(models["vocoder"], device)
        _check_mels(vocoder, config)
        speaker_encoder = None
        if config["speaker_dim"]:
            speaker_encoder = load_speaker_encoder(experiment.speaker_encoder)
            _check_speaker_encoder(speaker_encoder, config, experiment.speaker_encoder)
        return cls(model.to(device), vocoder, speaker_encoder, experiment)

    def convert(
        self, source: Utterance, references: list[Utterance], trial: Mapping[str, Any] | None = None
    ) -> Conversion:
        """``source`` in the voice of the first `reference_s` seconds of ``references``, or of all of them; ``features`` is the mel."""
        started, device, options = time.perf_counter(), self.vocoder.device, self.experiment
        features, phones = features_of(source, NAME)[None], None  # (1, T, D)
        if self.model.content.phonetic is not None:
            phones = same_length(phones_of(source, NAME), features.shape[1])[None]
        wave = torch.cat([reference.wave for reference in references])
        if options.reference_s:
            wave = wave[: round(options.reference_s * SAMPLE_RATE)]
        wave = wave.to(device)
        num_frames = int(mel_frames(torch.tensor(features.shape[1]), self.vocoder.frame_rate))
        condition, _ = self.model.condition(features, phones, self._reference(wave, references), num_frames)
        conditioned = time.perf_counter()
        name = trial["trial_id"] if trial is not None else source.utt_id
        noise = torch.randn(num_frames, self.vocoder.input_dim, generator=item_generator(options.seed, name))
        mel = self.model.sample(
            condition, noise[None].to(device), options.sampling_steps, options.sampler, options.guidance
        )[0]
        done = time.perf_counter()
        converted = self.vocoder.vocode(mel)
        vocoded = time.perf_counter()
        seconds = {"condition": conditioned - started, "flow": done - conditioned, "vocoding": vocoded - done}
        return Conversion(converted, mel, {"seconds": seconds, "heard_s": len(wave) / SAMPLE_RATE})

    def _reference(self, wave: Tensor, references: list[Utterance]) -> Reference:
        """The timbre of ``wave`` ``(N,)``, which was cut from ``references``."""
        mels = normalize(self.mel([wave])[0])[None]  # (1, R, M)
        frames = torch.tensor([mels.shape[1]], device=wave.device)
        return Reference(mels, frames, self._speaker_embedding(wave, references))

    def _speaker_embedding(self, wave: Tensor, references: list[Utterance]) -> Tensor | None:
        """e ``(1, E)`` of ``wave`` ``(N,)``; computed once for each set of references and length."""
        if self.speaker_encoder is None:
            return None
        key: tuple[str | int, ...] = (*(reference.utt_id for reference in references), len(wave))
        if key not in self._embeddings:
            self._embeddings[key] = torch.from_numpy(self.speaker_encoder.embed([wave.cpu()])).to(wave.device)
        return self._embeddings[key]


def _check_mels(vocoder: Vocoder, config: Mapping[str, Any]) -> None:
    """Raises an error unless the vocoder reads the mels that the flow makes."""
    rate = frame_rate(config.get("mels", {}))
    if (vocoder.input_dim, vocoder.frame_rate) != (config["bands"], rate):
        what = "mels at 24 kHz" if isinstance(vocoder, PublishedVocoder) else "features"
        raise BowerbirdError(
            f"--models: vocoder: it reads {what} of {vocoder.input_dim} dimensions, the flow makes mels of "
            f"{config['bands']} bands, {rate:g} frames per second; name a vocoder that was trained on these mels (a published "
            "BigVGAN needs a flow of its own: mels of encoder log-mel-24k)"
        )


def _check_speaker_encoder(encoder: SpeakerEncoder, config: Mapping[str, Any], name: str) -> None:
    """Raises an error unless the embeddings that the flow was trained on are of this encoder."""
    digest = encoder.identity.weights_sha256
    if digest != config["speaker_embeddings"].get("weights_sha256", digest):
        raise BowerbirdError(
            f"speaker_encoder: {name}: not the weights behind the speaker embeddings that the model was trained on; name the "
            "encoder of `speaker_embeddings`"
        )


SYSTEM = TakinVC
