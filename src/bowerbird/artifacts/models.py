"""Model folders on disk: ``config.json``, which says what the model is built from, and ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.config.models import FOREIGN_FILES, MODEL_FILES
from bowerbird.errors import BowerbirdError


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that are there, in the order that their digest is taken in: weights, then config."""
    names = dict.fromkeys((*MODEL_FILES, *FOREIGN_FILES))
    return [folder / name for name in names if (folder / name).is_file()]


def check_model_folder(folder: Path, where: str) -> None:
    """Raises an error that begins with ``where`` unless ``folder`` holds a trained model, or a BigVGAN as NVIDIA gives it."""
    if not folder.is_dir():
        raise BowerbirdError(f"{where}: {folder}: no such folder; train the stage first")
    absent = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if absent and not all((folder / name).is_file() for name in FOREIGN_FILES):
        raise BowerbirdError(
            f"{where}: {folder}: holds no {' and no '.join(absent)}; name the folder of a trained model, or bundled:NAME"
        )


def read_model_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model folder."""
    path = Path(folder) / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BowerbirdError(f"{path}: cannot be read ({error.strerror}); a model folder holds config.json") from error
    except json.JSONDecodeError as error:
        raise BowerbirdError(f"{path}: not valid JSON ({error})") from error


def load_weights(module: nn.Module, folder: Path) -> None:
    """Load ``model.safetensors`` of ``folder`` into ``module``; names and shapes must agree."""
    path = Path(folder) / "model.safetensors"
    try:
        weights = {name: tensor.float() for name, tensor in load_file(path).items()}
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise BowerbirdError(f"{path}: does not fit the architecture in its config.json: {reason}") from error
    except Exception as error:  # safetensors raises its own class, which it does not export
        raise BowerbirdError(f"{path}: cannot be read ({error})") from error


def check_architecture(folder: Path, architecture: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Refuse the model in ``folder`` where its ``config.json`` differs from ``architecture`` in one of ``keys``.

    ``where`` is the option that names the model; the error begins with it.
    """
    check_model_folder(folder, where)
    theirs = read_model_config(folder)
    for key in keys:
        if theirs.get(key) != architecture[key]:
            raise BowerbirdError(
                f"{where}: {folder}: its {key} is {theirs.get(key)!r}, this stage's is {architecture[key]!r}; weights only "
                "fit a model of the same architecture on the same features"
            )


def load_matching(
    module: nn.Module, folder: Path, architecture: Mapping[str, Any], keys: Sequence[str], where: str
) -> None:
    """Load the weights of the model in ``folder`` into ``module``, if both agree in ``keys``: see `check_architecture`."""
    check_architecture(folder, architecture, keys, where)
    load_weights(module, folder)


def weights_of_part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The float32 weights of one module, whose names begin with ``prefix``, out of those of several."""
    return {name.removeprefix(prefix): tensor.float() for name, tensor in weights.items() if name.startswith(prefix)}
