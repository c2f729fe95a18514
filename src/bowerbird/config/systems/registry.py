"""The registry of systems: the options of each, by the value of ``system``.

The options in module ``config/systems/<name>.py`` belong to the package ``systems/<name>/``. Another distribution adds a
system by an entry point of the group ``bowerbird.systems``: its name is the value of ``system``, its object the class of
the options, and the system's package is the one that this class's module lies in.
"""

from __future__ import annotations

import functools
import importlib.metadata
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bowerbird.config.systems.anchors import AnchorExperiment
from bowerbird.config.systems.base import ExperimentBase
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.config.systems.palindromic import PalindromicExperiment
from bowerbird.config.systems.qrvc import QrvcExperiment
from bowerbird.config.systems.stepback import StepbackExperiment
from bowerbird.config.systems.takin import TakinExperiment
from bowerbird.config.systems.vocoder import VocoderExperiment
from bowerbird.config.systems.world import WorldExperiment
from bowerbird.errors import BowerbirdError

BUILT_IN: tuple[type[ExperimentBase], ...] = (
    VocoderExperiment,
    WorldExperiment,
    KnnvcExperiment,
    PalindromicExperiment,
    QrvcExperiment,
    StepbackExperiment,
    TakinExperiment,
    AnchorExperiment,
)
GROUP = "bowerbird.systems"  # of entry points


def load_systems(entry_points: Iterable[importlib.metadata.EntryPoint]) -> dict[str, type[ExperimentBase]]:
    """The options of each built-in system and of each entry point, by the value of ``system``."""
    systems: dict[str, type[ExperimentBase]] = {model.model_fields["system"].default: model for model in BUILT_IN}
    for point in sorted(entry_points, key=lambda point: point.name):
        model = _load_options(point)
        if point.name in systems:
            raise BowerbirdError(f"entry point {GROUP}: {point.name} = {point.value}: there is a system of this name")
        systems[point.name] = model
    return systems


def _load_options(point: importlib.metadata.EntryPoint) -> type[ExperimentBase]:
    """The class of options that an entry point names; an error where it cannot be used."""
    where = f"entry point {GROUP}: {point.name} = {point.value}"
    try:
        model = point.load()
    except (ImportError, AttributeError) as error:
        raise BowerbirdError(f"{where}: cannot be loaded ({error}); repair or uninstall its package") from error
    if not (isinstance(model, type) and issubclass(model, ExperimentBase)):
        raise BowerbirdError(f"{where}: is no subclass of ExperimentBase; name the class of the system's options")
    if (default := model.model_fields["system"].default) != point.name:
        raise BowerbirdError(f"{where}: its system is {default!r}; the entry point must have the same name")
    return model


SYSTEMS = load_systems(importlib.metadata.entry_points(group=GROUP))
if TYPE_CHECKING:
    Experiment = ExperimentBase  # which systems there are is known when the program runs
else:
    Experiment = Annotated[functools.reduce(operator.or_, SYSTEMS.values()), Field(discriminator="system")]
