"""Model folders on disk: ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from bowerbird.errors import BowerbirdError


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


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The float32 weights of one module out of those of several."""
    return {name.removeprefix(prefix): tensor.float() for name, tensor in weights.items() if name.startswith(prefix)}
