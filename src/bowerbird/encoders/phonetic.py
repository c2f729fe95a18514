"""Phonetic encoders: what is said, frame by frame, as probabilities of phones (a phonetic posteriorgram, PPG).

Ours is a linear head on one layer of a self-supervised encoder. A model's folder holds ``config.json`` (encoder, layer,
phones in order) and ``model.safetensors`` (weight ``(phones, dim)``, bias ``(phones,)``). As features (``phonetic:NAME``)
there are also recognizers of `transformers`: posteriors of a CTC model (wav2vec 2.0, HuBERT, WavLM), or the hidden states
of Whisper's encoder; and the Conformer that a Takin-VC experiment trains on the corpus (`systems/recognizer.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.audio import HOP
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.checkpoint import Checkpoint, find_checkpoint
from bowerbird.encoders.phone_head import PhoneHead
from bowerbird.encoders.selfsupervised import MODEL_TYPES, load_encoder
from bowerbird.errors import BowerbirdError
from bowerbird.nn.conformer import ConformerCtc


class PhoneticModel(nn.Module):
    """A recognizer behind the face of an encoder: waves in, ``(frames, dim)`` each out, 50 frames a second."""

    hop, receptive_field = HOP, HOP + 80
    dim: int

    def num_frames(self, num_samples: int) -> int:
        """Frames of ``num_samples``."""
        return max((num_samples - 80) // HOP, 0)


class HeadPosteriors(PhoneticModel):
    """Posteriors of a linear head, read off features that are rounded to float16 as those on disk are."""

    def __init__(self, head: PhoneHead, below: nn.Module) -> None:
        super().__init__()
        head.check_dim(below.dim)
        self.below, self.dim = below, len(head.phones)
        self.register_buffer("weight", head.weight)
        self.register_buffer("bias", head.bias)

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz to probabilities ``(T, P)``, one each."""
        return [F.linear(features.half().float(), self.weight, self.bias).softmax(-1) for features in self.below(waves)]


class CtcPosteriors(PhoneticModel):
    """Posteriors of a CTC model of `transformers`; waves go through one by one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.dim = model, model.config.vocab_size

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        return [self.model(wave[None]).logits[0].float().softmax(-1)[: self.num_frames(len(wave))] for wave in waves]


class WhisperStates(PhoneticModel):
    """Hidden states of one layer of Whisper's encoder, of windows of 30 s at most (what is missing is silence)."""

    def __init__(self, model: nn.Module, reader: Any, layer: int) -> None:
        super().__init__()
        self.encoder, self.reader, self.layer, self.dim = model.encoder, reader, layer, model.config.d_model

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        states = []
        for wave in waves:
            mels = self.reader(wave.cpu().numpy(), sampling_rate=16_000, return_tensors="pt").input_features
            hidden = self.encoder(mels.to(wave.device), output_hidden_states=True).hidden_states[self.layer]
            states.append(hidden[0, : self.num_frames(len(wave))].float())  # of 1500 frames
        return states


class ConformerStates(PhoneticModel):
    """Our Conformer: posteriors of symbols and blank (layer 0), or hidden states after a block; waves go through one by one."""

    def __init__(self, model: ConformerCtc, layer: int) -> None:
        super().__init__()
        self.model, self.layer, self.dim = model, layer, model.width if layer else model.head.out_features

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        found = []
        for wave in waves:
            mels, frames = self.model.mels([wave])
            states = self.model.encode(mels, frames, self.layer)[0] if self.layer else self.model(mels, frames)[0].exp()
            found.append(states[0, : self.num_frames(len(wave))].float())
        return found


def load_conformer(checkpoint: Checkpoint, config: dict[str, Any], layer: int, key: str) -> ConformerStates:
    """The Conformer in a model folder of stage `ppg`; names and shapes of its weights must agree."""
    name = f"{key}.encoder: {checkpoint.name}"
    if layer > config["layers"]:
        raise BowerbirdError(f"{name}: layer {layer}: has blocks 1 to {config['layers']}; 0: posteriors")
    sizes = {size: config[size] for size in ("width", "layers", "heads", "feedforward", "kernel", "channels")}
    model = ConformerCtc(len(config["symbols"]), **sizes)
    try:
        model.load_state_dict(load_file(checkpoint.weights[0]))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise BowerbirdError(f"{name}: weights do not fit its config.json: {reason}") from error
    return ConformerStates(model, layer)


def load_recognizer(checkpoint: Checkpoint, options: FeaturesConfig, key: str) -> PhoneticModel:
    """A CTC model or Whisper's encoder from a folder that `transformers` reads; all its weights must be there."""
    import transformers
    from transformers import AutoConfig, AutoModelForCTC, WhisperFeatureExtractor, WhisperModel

    name = f"{key}.encoder: {checkpoint.name}"
    try:
        config = AutoConfig.from_pretrained(checkpoint.folder)
    except (OSError, ValueError, KeyError) as error:
        raise BowerbirdError(f"{name}: config.json is not a model's: {str(error).splitlines()[0]}") from None
    whisper = config.model_type == "whisper"
    if not whisper and config.model_type not in MODEL_TYPES:
        raise BowerbirdError(f"{name}: is a {config.model_type}; supported: whisper, and CTC: {', '.join(MODEL_TYPES)}")
    if whisper and not (options.layer <= config.encoder_layers and options.max_window_s <= 30):
        raise BowerbirdError(
            f"{name}: layer {options.layer}, max_window_s {options.max_window_s:g}: Whisper has layers 0 to "
            f"{config.encoder_layers} and hears 30 s at most"
        )
    transformers.logging.set_verbosity_error()
    kind = WhisperModel if whisper else AutoModelForCTC
    try:
        model, report = kind.from_pretrained(
            checkpoint.folder,
            use_safetensors=checkpoint.safetensors,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BowerbirdError(f"{name}: cannot be loaded ({' '.join(str(error).split())[:200]})") from None
    missing = sorted(k for k in report["missing_keys"] if "masked_spec_embed" not in k and "proj_out" not in k)
    if missing:
        raise BowerbirdError(f"{name}: weights lack {len(missing)} tensors, first {missing[0]}")
    if not whisper:
        return CtcPosteriors(model)
    return WhisperStates(model, WhisperFeatureExtractor(feature_size=config.num_mel_bins), options.layer)


def load_phonetic(options: FeaturesConfig, key: str = "features") -> tuple[Checkpoint, PhoneticModel]:
    """The recognizer that ``phonetic:NAME`` names, frozen, and its files."""
    spec = options.encoder
    checkpoint = find_checkpoint(spec, options.revision, key)
    config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    if "phones" in config:
        below = find_checkpoint(config["encoder"], key=key)
        checkpoint = replace(checkpoint, weights=(*checkpoint.weights, *below.weights))
        head = PhoneHead.load(spec)
        model: PhoneticModel = HeadPosteriors(head, load_encoder(below, head.layer, key))
    elif config.get("model") == "conformer-ctc":
        model = load_conformer(checkpoint, config, options.layer, key)
    else:
        model = load_recognizer(checkpoint, options, key)
    return checkpoint, model.eval().requires_grad_(False)
