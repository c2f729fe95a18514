"""States of Whisper's encoder as features: of one layer, or of several that are joined.

The weights come from a folder or hub id in the format of `transformers`, from one in CTranslate2's, or out of the packages of
`whisper-base`: the same weights give the same states.

Letters: ``N`` samples, ``T`` frames, ``W`` width of the model, ``D`` feature dimension.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from bowerbird.encoders.checkpoint import Checkpoint
from bowerbird.encoders.phonetic_base import PhoneticModel
from bowerbird.encoders.selfsupervised import join
from bowerbird.encoders.transformers_models import load_config, load_model
from bowerbird.encoders.whisper import is_ctranslate2
from bowerbird.errors import BowerbirdError
from bowerbird.nn.whisper import LONGEST, WhisperEncoder, WhisperMel

CT2_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}  # by the number in the file


class WhisperStates(PhoneticModel):
    """States of one or several layers; several are normalized one by one, and joined.

    Waves go through one by one, at most 30 s of each: the options cut longer ones in windows.
    """

    def __init__(self, encoder: WhisperEncoder, layers: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self.layers = encoder, tuple(layers)
        self.mel = WhisperMel(encoder.conv1.in_channels)
        self.dim = encoder.conv2.out_channels * len(self.layers)

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waves ``(N,)`` at 16 kHz to states ``(T, D)``, one each."""
        return [self._states(wave) for wave in waves]

    def _states(self, wave: Tensor) -> Tensor:
        states = self.encoder(self.mel(wave)[None], self.layers)
        return join(states)[0] if len(states) > 1 else states[0][0].float()


def load_whisper_states(checkpoint: Checkpoint, layers: Sequence[int], where: str) -> WhisperStates:
    """The encoder of ``checkpoint`` up to the highest of ``layers``; an error begins with ``where``."""
    settings = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    read = _read_ctranslate2 if is_ctranslate2(settings) else _read_transformers
    weights, heads = read(checkpoint, where)
    total = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    if max(layers) > total:
        raise BowerbirdError(f"{where}: layer {max(layers)}: Whisper has layers 0 to {total}")
    bands, width = weights["conv1.weight"].shape[1], weights["conv1.weight"].shape[0]
    feedforward, depth = weights["layers.0.fc1.weight"].shape[0], max(layers)
    encoder = WhisperEncoder(bands, width, heads, feedforward, depth, norm=depth == total)
    kept = {name: tensor for name, tensor in weights.items() if name in encoder.state_dict()}
    encoder.load_state_dict(kept)
    return WhisperStates(encoder.eval().requires_grad_(False), layers)


def _read_transformers(checkpoint: Checkpoint, where: str) -> tuple[dict[str, Tensor], int]:
    """Weights of the encoder by name, and how many heads it has, from a folder of `transformers`."""
    from transformers import WhisperModel

    config = load_config(checkpoint, where)
    if config.max_source_positions != LONGEST:
        raise BowerbirdError(f"{where}: has {config.max_source_positions} positions, not {LONGEST}: not a Whisper's")
    model = load_model(WhisperModel, checkpoint, where, ("proj_out", "decoder."), dtype=torch.float32)
    return dict(model.encoder.state_dict()), config.encoder_attention_heads


def _read_ctranslate2(checkpoint: Checkpoint, where: str) -> tuple[dict[str, Tensor], int]:
    """The same from ``model.bin`` of CTranslate2."""
    path = checkpoint.folder / "model.bin"
    try:
        arrays = dict(read_ctranslate2(path, "encoder/"))
        weights = {ours: tensor for name, array in arrays.items() for ours, tensor in _renamed(name, array, arrays)}
        return weights, int(arrays["num_heads"])
    except (OSError, KeyError, ValueError, struct.error) as error:
        raise BowerbirdError(f"{where}: {path}: not a Whisper as CTranslate2 writes it ({error})") from None


def read_ctranslate2(path: Path, prefix: str) -> list[tuple[str, np.ndarray]]:
    """Arrays of a ``model.bin`` whose names begin with ``prefix``, by what follows it.

    The file: version, name of the specification, its revision, the number of arrays; of each its name, its shape, its type and
    its bytes. A text is its length (with the zero at its end) and its bytes.
    """
    found = []
    with open(path, "rb") as file:
        _number(file, "I")
        _text(file)
        _number(file, "I")
        for _ in range(_number(file, "I")):
            name = _text(file)
            shape = [_number(file, "I") for _ in range(_number(file, "B"))]
            kind, size = _number(file, "B"), _number(file, "I")
            if not name.startswith(prefix):
                file.seek(size, 1)
                continue
            dtype, data = np.dtype(CT2_TYPES[kind]), file.read(size)
            found.append((name.removeprefix(prefix), np.frombuffer(data, dtype).reshape(shape)))
    return found


def _number(file: BinaryIO, code: str) -> int:
    return int(struct.unpack(f"<{code}", file.read(struct.calcsize(code)))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H"))[:-1].decode()


def _renamed(name: str, array: np.ndarray, arrays: Mapping[str, np.ndarray]) -> list[tuple[str, Tensor]]:
    """One array of the encoder as tensors under the names of `transformers`; [] where it is no weight by itself."""
    *path, last = name.split("/")
    if last.endswith("_scale") or not path:
        return []
    values = array.astype(np.float32)
    if f"{name}_scale" in arrays:  # int8: a scale for each row
        values = values / arrays[f"{name}_scale"].astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    tensor = torch.from_numpy(values)
    last = {"gamma": "weight", "beta": "bias", "encodings": "weight"}.get(last, last)
    place = "/".join(path)
    if place == "position_encodings":
        return [("embed_positions.weight", tensor)]
    if not place.startswith("layer_") or place == "layer_norm":
        return [(f"{place}.{last}", tensor)]
    number, rest = path[0].removeprefix("layer_"), "/".join(path[1:])
    if rest == "self_attention/linear_0":  # queries, keys and values in one; keys have no bias
        parts = zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True)
        return [(f"layers.{number}.self_attn.{n}.{last}", t) for n, t in parts if (n, last) != ("k_proj", "bias")]
    names: dict[str, Any] = {
        "self_attention/linear_1": "self_attn.out_proj",
        "self_attention/layer_norm": "self_attn_layer_norm",
        "ffn/layer_norm": "final_layer_norm",
        "ffn/linear_0": "fc1",
        "ffn/linear_1": "fc2",
    }
    return [(f"layers.{number}.{names[rest]}.{last}", tensor)]
