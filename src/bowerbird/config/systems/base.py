"""What all experiments have in common."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from pydantic import Field

from bowerbird.config.base import Section, StageOptions


class ExperimentBase(Section):
    """Options and structure common to all experiments."""

    stages: ClassVar[tuple[str, ...]] = ()  # training stages in order
    trains_on: ClassVar[dict[str, tuple[str, ...]]] = {}  # stage -> artifacts it reads
    converts_with: ClassVar[tuple[str, ...]] = ()  # what conversion reads besides manifest, audio and trials

    @classmethod
    def package(cls) -> str:
        """The name that the module of these options shares with the package of the system: ``systems/<name>/``."""
        return cls.__module__.rpartition(".")[2]

    reuse: dict[str, str] = Field(
        default_factory=dict, description="stage -> experiment whose model is taken instead of training one"
    )


def stage_options(experiment: Any, stage: str) -> StageOptions:
    """The options of one training stage of an experiment."""
    return getattr(experiment, stage)


def stage_params(experiment: Any, stage: str) -> str:
    """What one training stage depends on, as one line of JSON: the system and the stage's own options."""
    return _one_line({"system": experiment.system, stage: stage_options(experiment, stage).model_dump()})


def conversion_params(experiment: Any) -> str:
    """What conversion depends on, as one line of JSON: the system and its options outside training stages.

    Names of variants (`features`, `vocoder` ...) are left out: what they name comes as input files.
    """
    names = {
        "features",
        "codebook",
        "pairs",
        "mels",
        "phones",
        "voices",
        "vocoder",
        "training",
        "reuse",
        "recognizer",
        "published",
    }
    names |= {name for name, value in experiment if isinstance(value, StageOptions)}
    return _one_line({k: v for k, v in experiment.model_dump().items() if k not in names})


def _one_line(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
