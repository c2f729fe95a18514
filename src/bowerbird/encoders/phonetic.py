"""Phonetic encoders: what is said, frame by frame, as phone posteriors (a phonetic posteriorgram, PPG) or hidden states.

Features of kind ``phonetic`` come from one of these, as the folder's ``config.json`` says:

* a phone head on layers of a self-supervised encoder or of Whisper (`phone_head`): posteriors of phones;
* a CTC model of `transformers` (wav2vec 2.0, HuBERT, WavLM): posteriors of its symbols;
* Whisper's encoder: hidden states of one layer, or of several (`whisper_states`);
* the Conformer that a Takin-VC experiment trains on the corpus: posteriors of its symbols, or hidden states of one block.

Shapes: ``N`` samples, ``T`` frames, ``D`` feature dimension (``P`` where it counts phones or symbols).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.artifacts.models import read_model_config
from bowerbird.config.sections.features import WHISPER_BASE, FeaturesConfig
from bowerbird.encoders.checkpoint import CTRANSLATE2, TRANSFORMERS, Checkpoint, find_checkpoint, peek_config
from bowerbird.encoders.phone_head import HeadOutput, PhoneReader, is_phone_head
from bowerbird.encoders.phonetic_base import PhoneticModel
from bowerbird.encoders.selfsupervised import MODEL_TYPES, SelfSupervisedEncoder, load_encoder
from bowerbird.encoders.transformers_models import TRAINING_ONLY, load_config, load_model
from bowerbird.encoders.whisper import is_ctranslate2, packaged_whisper
from bowerbird.encoders.whisper_states import WhisperStates, load_whisper_states
from bowerbird.errors import BowerbirdError
from bowerbird.nn.conformer import ConformerCtc

Below = SelfSupervisedEncoder | WhisperStates  # what a phone head reads
MOST_SECONDS = 30  # that Whisper reads in one piece


class HeadOutputs(PhoneticModel):
    """What a phone head gives, from features that are rounded to float16 as those on disk are."""

    def __init__(self, reader: PhoneReader, below: Below, output: HeadOutput) -> None:
        super().__init__()
        reader.check_dim(below.dim)
        self.below, self.head, self.output = below, reader.head, output
        self.dim = reader.head.width_of(output)

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz to ``(T, D)``, one each."""
        return [self.head.read(features.half().float(), self.output) for features in self.below(waves)]


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


def load_ctc(checkpoint: Checkpoint, where: str) -> CtcPosteriors:
    """A CTC model from the files of a model of `transformers`."""
    from transformers import AutoModelForCTC

    model_type = load_config(checkpoint, where).model_type
    if model_type not in MODEL_TYPES:
        raise BowerbirdError(f"{where}: is a {model_type}; supported: whisper, and CTC: {', '.join(MODEL_TYPES)}")
    model = load_model(AutoModelForCTC, checkpoint, where, TRAINING_ONLY, dtype=torch.float32)
    return CtcPosteriors(model)


def find_encoder(options: FeaturesConfig, key: str) -> Checkpoint:
    """The files of a self-supervised encoder, or of a Whisper: packaged, in CTranslate2's format, or in that of `transformers`."""
    if options.encoder == WHISPER_BASE:
        return packaged_whisper(f"{key}.encoder: {WHISPER_BASE}")
    reference = options.model() or options.encoder
    layout = CTRANSLATE2 if is_ctranslate2(peek_config(reference)) else TRANSFORMERS
    return find_checkpoint(reference, f"{key}.encoder", layout)


def load_states(checkpoint: Checkpoint, options: FeaturesConfig, key: str) -> Below:
    """The states of an encoder that `find_encoder` found."""
    return (
        load_whisper(checkpoint, options, key)
        if is_whisper(checkpoint)
        else load_encoder(checkpoint, options.all_layers, key)
    )


def load_whisper(checkpoint: Checkpoint, options: FeaturesConfig, key: str) -> WhisperStates:
    """The states of a Whisper, of windows that it can read."""
    where = f"{key}.encoder: {checkpoint.name}"
    if options.max_window_s > MOST_SECONDS:
        raise BowerbirdError(
            f"{where}: max_window_s {options.max_window_s:g}: Whisper reads {MOST_SECONDS} s at most; lower it"
        )
    return load_whisper_states(checkpoint, options.all_layers, where)


def is_whisper(checkpoint: Checkpoint) -> bool:
    """Whether the files are those of a Whisper, in either format."""
    config = read_model_config(checkpoint.folder)
    return is_ctranslate2(config) or config.get("model_type") == "whisper"


def find_phonetic(options: FeaturesConfig, key: str = "features") -> tuple[Checkpoint, Checkpoint | None]:
    """The files of the phonetic encoder that ``options`` name, and of the encoder below it where it is a phone head.

    The weights of the first are then those of both.
    """
    checkpoint = find_encoder(options, key)
    if not is_phone_head(checkpoint.folder):
        return checkpoint, None
    below = find_encoder(PhoneReader.open(checkpoint).below, key)
    return replace(checkpoint, weights=(*checkpoint.weights, *below.weights)), below


def load_phonetic(options: FeaturesConfig, key: str = "features") -> tuple[Checkpoint, PhoneticModel]:
    """The phonetic encoder that ``options`` name, frozen, and its files; ``key`` names the options in errors."""
    checkpoint, below = find_phonetic(options, key)
    where, config = f"{key}.encoder: {checkpoint.name}", read_model_config(checkpoint.folder)
    if options.head != "posteriors" and below is None:
        raise BowerbirdError(f"{key}.head: {options.head}: {checkpoint.name} is no phone head")
    if options.head == "discriminants" and not config.get("discriminants"):
        raise BowerbirdError(f"{key}.head: {options.head}: {checkpoint.name} has no discriminants; use roots, or keys")
    model: PhoneticModel
    if below is not None:
        reader = PhoneReader.open(checkpoint)
        model = HeadOutputs(reader, load_states(below, reader.below, key), options.head)
    elif config.get("model") == "conformer-ctc":
        model = load_conformer(checkpoint, config, options.layer, where)
    elif is_whisper(checkpoint):
        model = load_whisper(checkpoint, options, key)
    else:
        model = load_ctc(checkpoint, where)
    return checkpoint, model.eval().requires_grad_(False)
