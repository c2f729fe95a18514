"""What every group of options is made of, and the two kinds of reference that options hold.

A group of options is a frozen pydantic model (`Section`); a default stands there and nowhere else. Options name other things
in two ways: a *variant* is an artifact by the section that defines it and its name there, a *model* is weights, wherever
they come from.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # of a variant or an experiment: its name becomes a folder


class Section(pydantic.BaseModel):
    """A frozen group of options; unknown keys are errors."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)


class StageOptions(Section):
    """What every training stage has."""

    steps: int = Field(1000, ge=1, description="optimizer steps; a raised number resumes from the last checkpoint")
    batch_size: int = Field(16, ge=1, description="items per step, over all GPUs")
    accumulate: int = Field(1, ge=1, description="micro-batches per step; batch_size is their sum")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the forward pass")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0: none")
    grad_clip: float = Field(0.0, ge=0, description="largest gradient norm; 0: no clipping")
    valid_every: int = Field(200, ge=1, description="steps between validations")
    seed: int = Field(0, ge=0, description="of the initial weights, the order of batches and their crops")
    start_from: str = Field(
        "",
        description="weights that the stage starts from: an experiment of this study (its stage of the same name, or "
        "trained:EXPERIMENT/STAGE), bundled:NAME, or a model folder, of another run for instance",
    )


class AdamWStage(StageOptions):
    """A stage that AdamW trains: its learning rate rises linearly, then decays in steps."""

    learning_rate: float = Field(1.0e-4, gt=0, description="AdamW's highest learning rate")
    lr_warmup: int = Field(1000, ge=0, description="steps of linear rise")
    lr_decay: float = Field(0.999, gt=0, le=1, description="factor per `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="of AdamW")
    beta2: float = Field(0.98, ge=0, lt=1, description="of AdamW")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")


class GanStage(StageOptions):
    """A generator of waveforms against discriminators: what vocoders have in common."""

    generator: str
    losses: str
    adversarial_weight: float = Field(1.0, ge=0, description="of the generator's LSGAN loss (lambda)")
    adversarial_from: int = Field(
        0, ge=0, description="step at which the discriminators join; before it, reconstruction only"
    )
    segment_frames: int = Field(24, ge=4, description="frames of a training crop (20 ms each)")
    learning_rate: float = Field(2.0e-4, gt=0, description="of both AdamW optimizers")
    beta1: float = Field(0.8, ge=0, lt=1, description="of AdamW")
    beta2: float = Field(0.99, ge=0, lt=1, description="of AdamW")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    lr_decay: float = Field(0.999, gt=0, le=1, description="factor per `lr_decay_steps`")
    lr_decay_steps: int = Field(1000, ge=1, description="steps of one decay")


@dataclass(frozen=True)
class Variant:
    """An artifact by the section that defines it and its name there: ``Variant("features", "nano")``."""

    section: Literal["audio", "features", "codebook", "units", "pairs"]
    name: str = ""  # "" of audio, which has no variants


@dataclass(frozen=True)
class ModelReference:
    """Weights, by where they come from.

    ``bundled``: ``name`` is a folder of the package's assets. ``trained``: ``stage`` of the experiment ``name`` of this study
    ("" is the experiment that refers to it). ``folder``: ``name`` is a path. ``hub``: ``name`` is OWNER/NAME, ``revision`` its
    commit or "".
    """

    kind: Literal["bundled", "trained", "folder", "hub"]
    name: str
    stage: str = ""
    revision: str = ""

    def __str__(self) -> str:
        if self.kind == "bundled":
            return f"bundled:{self.name}"
        if self.kind == "trained":
            return f"trained:{self.name}/{self.stage}"
        if self.kind == "hub":
            return f"hub:{self.name}" + (f"@{self.revision}" if self.revision else "")
        return self.name


def parse_model(text: str, stage: str = "") -> ModelReference:
    """The model that ``text`` names; ``stage`` is the one that the name of an experiment alone stands for.

    bundled:NAME, EXPERIMENT or trained:EXPERIMENT[/STAGE], hub:OWNER/NAME[@COMMIT] or OWNER/NAME[@COMMIT] where no folder of
    that name is, and anything else is a folder.
    """
    prefix, _, rest = text.partition(":")
    if prefix == "bundled":
        return ModelReference("bundled", rest)
    if prefix == "trained":
        name, _, named_stage = rest.partition("/")
        return ModelReference("trained", name, named_stage or stage)
    if prefix == "hub":
        return _hub(rest)
    if stage and NAME.fullmatch(text):
        return ModelReference("trained", text, stage)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")) and not Path(text).exists():
        return _hub(text)
    return ModelReference("folder", text)


def _hub(text: str) -> ModelReference:
    name, _, revision = text.partition("@")
    return ModelReference("hub", name, revision=revision)


def flags(values: Mapping[str, Any]) -> str:
    """Options as command-line words, in their order: what the command line reads back.

    The result is one flat string, so that a workflow can compare it.
    """
    words: list[str] = []
    for key, value in values.items():
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{key.replace('_', '-')}")
        elif isinstance(value, list):
            words += [flag, *map(str, value)]
        elif isinstance(value, dict):
            words += [flag, json.dumps(value, sort_keys=True, ensure_ascii=False)]
        elif str(value).startswith("-"):
            words.append(f"{flag}={value}")
        else:
            words += [flag, str(value)]
    return shlex.join(words)


def one_line(value: Any) -> str:
    """JSON on one line with sorted keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
