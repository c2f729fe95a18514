"""Phonetic encoders: what is said, frame by frame, as phone posteriors (a phonetic posteriorgram, PPG) or hidden states.

Features of kind ``phonetic`` come from one of these, as the folder's ``config.json`` says:

* a linear phone head on one layer of a self-supervised encoder (`phone_head`): posteriors of phones;
* a CTC model of `transformers` (wav2vec 2.0, HuBERT, WavLM): posteriors of its symbols;
* Whisper's encoder: hidden states of one layer;
* the Conformer that a Takin-VC experiment trains on the corpus: posteriors of its symbols, or hidden states of one block.

Shapes: ``N`` samples, ``T`` frames, ``D`` feature dimension (``P`` where it counts phones or symbols).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts.models import read_model_config
from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.checkpoint import TRANSFORMERS, Checkpoint, find_checkpoint
from bowerbird.encoders.phone_head import PhoneHead
from bowerbird.encoders.selfsupervised import MODEL_TYPES, SelfSupervisedEncoder, load_encoder
from bowerbird.encoders.transformers_models import TRAINING_ONLY, load_config, load_model
from bowerbird.errors import BowerbirdError
from bowerbird.nn.conformer import ConformerCtc


class PhoneticModel(nn.Module):
    """A recognizer that is used as an encoder: 50 frames per second, as many as a self-supervised encoder gives.

    ``forward`` takes waves ``(N,)`` at 16 kHz and gives features ``(T, D)``, one each.
    """

    hop, receptive_field = HOP, HOP + 80
    is_windowed = True  # long utterances may go through in windows that start at multiples of the hop
    dim: int

    def num_frames(self, num_samples: int) -> int:
        """Frames of ``num_samples``."""
        return max((num_samples - 80) // HOP, 0)


class HeadPosteriors(PhoneticModel):
    """Posteriors of a phone head, from features that are rounded to float16 as those on disk are."""

    weight: Tensor  # (P, D)
    bias: Tensor  # (P,)

    def __init__(self, head: PhoneHead, below: SelfSupervisedEncoder) -> None:
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

    model: Any  # of transformers, whose models have no type in common

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.dim = self.model.config.vocab_size

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz to probabilities ``(T, P)``, one each."""
        return [self.model(wave[None]).logits[0].float().softmax(-1)[: self.num_frames(len(wave))] for wave in waves]


class WhisperStates(PhoneticModel):
    """Hidden states of one layer of Whisper's encoder, of windows of 30 s at most (what is missing is silence)."""

    encoder: Any  # of transformers

    def __init__(self, model: Any, reader: Any, layer: int) -> None:
        super().__init__()
        self.encoder, self.reader, self.layer, self.dim = model.encoder, reader, layer, model.config.d_model

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz to hidden states ``(T, D)``, one each."""
        states = []
        for wave in waves:
            mels = self.reader(wave.cpu().numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
            hidden = self.encoder(mels.to(wave.device), output_hidden_states=True).hidden_states[self.layer]
            states.append(hidden[0, : self.num_frames(len(wave))].float())  # of 1500 frames
        return states


class ConformerStates(PhoneticModel):
    """Posteriors of symbols and blank (layer 0) or hidden states after a block of our Conformer; waves go through one by one."""

    def __init__(self, model: ConformerCtc, layer: int) -> None:
        super().__init__()
        self.model, self.layer, self.dim = model, layer, model.width if layer else model.head.out_features

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz to probabilities ``(T, P)`` or hidden states ``(T, D)``, one each."""
        found = []
        for wave in waves:
            mels, frames = self.model.mels([wave])
            states = self.model.encode(mels, frames, self.layer)[0] if self.layer else self.model(mels, frames)[0].exp()
            found.append(states[0, : self.num_frames(len(wave))].float())
        return found


def load_conformer(checkpoint: Checkpoint, config: dict[str, Any], layer: int, where: str) -> ConformerStates:
    """The Conformer in a model folder of stage `ppg`; names and shapes of its weights must agree with ``config``."""
    if layer > config["layers"]:
        raise BowerbirdError(f"{where}: layer {layer}: has blocks 1 to {config['layers']}; 0: posteriors")
    sizes = {size: config[size] for size in ("width", "layers", "heads", "feedforward", "kernel", "channels")}
    model = ConformerCtc(len(config["symbols"]), **sizes)
    try:
        model.load_state_dict(load_file(checkpoint.weights[0]))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise BowerbirdError(f"{where}: weights do not fit its config.json: {reason}") from error
    return ConformerStates(model, layer)


def load_whisper_or_ctc(checkpoint: Checkpoint, options: FeaturesConfig, where: str) -> WhisperStates | CtcPosteriors:
    """Whisper's encoder or a CTC model from the files of a model of `transformers`."""
    from transformers import AutoModelForCTC, WhisperFeatureExtractor, WhisperModel

    config = load_config(checkpoint, where)
    is_whisper = config.model_type == "whisper"
    if not is_whisper and config.model_type not in MODEL_TYPES:
        raise BowerbirdError(
            f"{where}: is a {config.model_type}; supported: whisper, and CTC: {', '.join(MODEL_TYPES)}"
        )
    if is_whisper and not (options.layer <= config.encoder_layers and options.max_window_s <= 30):
        raise BowerbirdError(
            f"{where}: layer {options.layer}, max_window_s {options.max_window_s:g}: Whisper has layers 0 to "
            f"{config.encoder_layers} and reads 30 s at most"
        )
    factory = WhisperModel if is_whisper else AutoModelForCTC
    model = load_model(factory, checkpoint, where, (*TRAINING_ONLY, "proj_out"), dtype=torch.float32)
    if not is_whisper:
        return CtcPosteriors(model)
    return WhisperStates(model, WhisperFeatureExtractor(feature_size=config.num_mel_bins), options.layer)


def find_phonetic(options: FeaturesConfig, key: str = "features") -> tuple[Checkpoint, Checkpoint | None]:
    """The files of the phonetic encoder that ``options`` name, and of the encoder below it where it is a phone head.

    The weights of the first are then those of both.
    """
    checkpoint = find_checkpoint(options.model() or options.encoder, f"{key}.encoder", TRANSFORMERS)
    if "phones" not in read_model_config(checkpoint.folder):
        return checkpoint, None
    below = find_checkpoint(PhoneHead.read(checkpoint).encoder, f"{key}.encoder", TRANSFORMERS)
    return replace(checkpoint, weights=(*checkpoint.weights, *below.weights)), below


def load_phonetic(options: FeaturesConfig, key: str = "features") -> tuple[Checkpoint, PhoneticModel]:
    """The phonetic encoder that ``options`` name, frozen, and its files; ``key`` names the options in errors."""
    checkpoint, below = find_phonetic(options, key)
    where, config = f"{key}.encoder: {checkpoint.name}", read_model_config(checkpoint.folder)
    model: PhoneticModel
    if below is not None:
        head = PhoneHead.read(checkpoint)
        model = HeadPosteriors(head, load_encoder(below, head.layer, key))
    elif config.get("model") == "conformer-ctc":
        model = load_conformer(checkpoint, config, options.layer, where)
    else:
        model = load_whisper_or_ctc(checkpoint, options, where)
    return checkpoint, model.eval().requires_grad_(False)
