"""The torch device that an option or a command names."""

from __future__ import annotations

import torch

from bowerbird.errors import BowerbirdError


def pick_device(name: str) -> torch.device:
    """The torch device that `runtime.device` names; "auto" is a GPU if there is one, else the CPU.

    Raises `BowerbirdError` for a name that torch does not know, and for CUDA where there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BowerbirdError(f"runtime.device: {name}: not a device torch knows; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BowerbirdError(f"runtime.device: {name}: no CUDA device here; use auto or cpu")
    return device
