"""The registry of systems: the options of each, by the value of ``system``.

The options in module ``config/systems/<name>.py`` belong to the package ``systems/<name>/``.
"""

from __future__ import annotations

import typing
from typing import Annotated

from pydantic import Field

from bowerbird.config.systems.anchors import AnchorExperiment
from bowerbird.config.systems.base import ExperimentBase
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.config.systems.palindromic import PalindromicExperiment
from bowerbird.config.systems.qrvc import QrvcExperiment
from bowerbird.config.systems.stepback import StepbackExperiment
from bowerbird.config.systems.takin import TakinExperiment
from bowerbird.config.systems.vocoder import VocoderExperiment

Experiment = Annotated[
    VocoderExperiment
    | KnnvcExperiment
    | PalindromicExperiment
    | QrvcExperiment
    | StepbackExperiment
    | TakinExperiment
    | AnchorExperiment,
    Field(discriminator="system"),
]
SYSTEMS: dict[str, type[ExperimentBase]] = {
    model.model_fields["system"].default: model for model in typing.get_args(typing.get_args(Experiment)[0])
}
