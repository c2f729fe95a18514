"""Takin-VC, ready to convert."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.encoders.speaker import SpeakerEncoder, load_speaker_encoder
from bowerbird.encoders.spectral import frame_rate, load_spectral
from bowerbird.errors import BowerbirdError
from bowerbird.systems.base import Conversion, System, Utterance
from bowerbird.systems.takin.network import FRAMES_PER_SECOND, Takin, item_generator, mel_frames, normalize, same_length
from bowerbird.systems.vocoder.synthesis import PublishedVocoder, Vocoder, load_vocoder


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
        if config["speaker_dim"]:
            voice = load_speaker_encoder(experiment.speaker_encoder)
            expected = config["speaker_embeddings"].get("weights_sha256", voice.identity.weights_sha256)
            if voice.identity.weights_sha256 != expected:
                raise BowerbirdError(
                    f"speaker_encoder: {experiment.speaker_encoder}: not the weights behind the voice prints that the model "
                    "was trained on; name the encoder of `speaker_embeddings`"
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
        mels = normalize(self.mel([wave])[0])[None]  # (1, R, bands)
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


SYSTEM = TakinVC
