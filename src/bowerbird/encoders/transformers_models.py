"""Models of the library `transformers` from the files of a checkpoint: no tensor that runs is left at a random value."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from safetensors import SafetensorError

from bowerbird.encoders.checkpoint import Checkpoint
from bowerbird.errors import BowerbirdError

BROKEN = (OSError, ValueError, KeyError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError)
TRAINING_ONLY = ("masked_spec_embed",)  # parts of tensors' names that no forward pass here reads


def load_config(checkpoint: Checkpoint, where: str) -> Any:
    """The model's configuration; an error begins with ``where``."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(checkpoint.folder)
    except (OSError, ValueError, KeyError) as error:
        raise BowerbirdError(f"{where}: config.json is not a model's: {str(error).splitlines()[0]}") from None


def load_model(
    factory: Any, checkpoint: Checkpoint, where: str, unused: Sequence[str] = TRAINING_ONLY, **options: Any
) -> Any:
    """The model that ``factory`` (a class with ``from_pretrained``) makes of the files, frozen, in evaluation mode.

    Weights of other formats than safetensors are read with ``weights_only``. A tensor that the files lack is an error,
    unless its name holds one of ``unused``. ``options`` go to ``from_pretrained``.
    """
    try:
        with _quiet():
            model, report = factory.from_pretrained(
                checkpoint.folder, use_safetensors=checkpoint.is_safetensors, output_loading_info=True, **options
            )
    except BROKEN as error:
        reason = " ".join(str(error).split())[:200]
        raise BowerbirdError(f"{where}: {checkpoint.weights[0]} cannot be loaded ({reason})") from None
    missing = sorted(name for name in report["missing_keys"] if not any(part in name for part in unused))
    if missing:
        raise BowerbirdError(f"{where}: weights lack {len(missing)} tensors, first {missing[0]}; they would be random")
    return model.eval().requires_grad_(False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the library's list of every tensor that is left out, and its progress bars."""
    import transformers

    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)
