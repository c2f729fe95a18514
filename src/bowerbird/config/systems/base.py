"""What all experiments have in common: an experiment is a system with its options.

A system's options are one module here, of the name of its package in ``bowerbird.systems``. They are torch-free: the
workflow reads them at every start. What others need to know of a system (which stages it trains, what each one and the
conversion read, which bound or control it is) are methods, so nobody else looks at its fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import ModelReference, Section, StageOptions, Variant
from bowerbird.config.merging import merge
from bowerbird.config.sections.features import FeaturesConfig

Inputs = dict[str, Variant | tuple[Variant, ...] | ModelReference]  # what a command reads, by role
Kind = Literal["system", "control", "anchor"]


class ExperimentBase(Section):
    """Options and structure common to all experiments."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # options that a size sets, by its name; paper: the defaults
    REFERENCES: ClassVar[frozenset[str]] = (
        frozenset()
    )  # fields that name artifacts and models, which come as input files
    OF_TRAINING: ClassVar[frozenset[str]] = frozenset()  # further fields that conversion does not depend on

    size: Literal["paper", "nano"] = Field(
        "paper", description="paper: the published sizes are the defaults; nano: sizes that two cores train in minutes"
    )
    reuse: dict[str, str] = Field(
        default_factory=dict, description="stage -> experiment whose model is taken instead of training one"
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _values_of_the_size(cls, values: Any) -> Any:
        """Values that are given stand over those of the size."""
        if not isinstance(values, Mapping):
            return values
        return merge(cls.SIZES.get(str(values.get("size", "paper")), {}), values)

    @classmethod
    def package(cls) -> str:
        """The package of the system: ``bowerbird.systems.<name>`` of a module here, else the one that the options lie in."""
        package, _, name = cls.__module__.rpartition(".")
        return f"bowerbird.systems.{name}" if package == __package__ else package

    # what it trains
    @property
    def stages(self) -> tuple[str, ...]:
        """Training stages in order."""
        return ()

    def stage_options(self, stage: str) -> StageOptions:
        """The options of one training stage; a ValueError names a stage that the system does not have."""
        options = getattr(self, stage, None)
        if not isinstance(options, StageOptions):
            known = ", ".join(name for name, value in self if isinstance(value, StageOptions)) or "none"
            raise ValueError(f"{stage!r}: no training stage of {self.system_name}; it has: {known}")
        return options

    @property
    def system_name(self) -> str:
        """The value of ``system``."""
        return str(type(self).model_fields["system"].default)

    def model(self, stage: str) -> ModelReference:
        """The model of a stage: the experiment's own, or that of the experiment it reuses."""
        return ModelReference("trained", self.reuse.get(stage, ""), stage)

    # what it reads
    def training_inputs(self, stage: str) -> Inputs:
        """What training ``stage`` reads besides the manifest, by role."""
        raise KeyError(stage)

    def conversion_inputs(self) -> Inputs:
        """What conversion reads besides manifest, trials and audio, by role."""
        return {}

    def external_models(self) -> Iterator[tuple[str, str]]:
        """(option, value) of each option that may name a model of a hub."""
        yield from ()

    def check_features(self, features: Mapping[str, FeaturesConfig]) -> None:
        """Raises a ValueError, which names the option, where it asks for what the study's ``features`` do not have."""

    # what it depends on
    def training_params(self, stage: str) -> dict[str, Any]:
        """What the bytes of a stage's model depend on besides its inputs."""
        options = self.stage_options(stage).model_dump(exclude={"start_from"})
        return {"system": self.system_name, "stage": stage, **options}

    def conversion_params(self) -> dict[str, Any]:
        """What the bytes of a conversion depend on besides its inputs."""
        left_out = {"size", "reuse", *self.REFERENCES, *self.OF_TRAINING}
        left_out |= {name for name, value in self if isinstance(value, StageOptions)}
        return self.model_dump(exclude=left_out)

    # what it is among the others
    def kind(self, pair_methods: Mapping[str, str]) -> Kind:
        """Whether it is a system, a control that should lose, or an anchor; ``pair_methods``: method of each `pairs`."""
        return "system"

    def title(self, pair_methods: Mapping[str, str]) -> str:
        """The paper; what a control differs in; what an anchor plays."""
        return (type(self).__doc__ or self.system_name).split(":")[0]

    def anchor_role(self) -> str:
        """Which bound it is: ground-truth, heldout-target, random-speaker or vocoder; "" of a system."""
        return ""

    def changed_options(self) -> dict[str, Any]:
        """Options that differ from those of the experiment's size, by dotted name; the size itself, where it is not the paper's."""
        standard = dict(_flat(type(self)(size=self.size).model_dump(mode="json")))
        changed = {key: value for key, value in _flat(self.model_dump(mode="json")) if standard.get(key) != value}
        return {**({"size": self.size} if self.size != "paper" else {}), **changed}

    def spoken_column(self) -> str:
        """Column of the trials that names the utterance whose words its conversions say."""
        return "source_utt"

    def reference_utterances(self, trial: Mapping[str, Any]) -> list[str]:
        """Ids of the utterances of a trial that a conversion may use besides the source."""
        return list(trial["reference_utts"])

    def verifiers(self) -> Iterator[tuple[str, str]]:
        """(verifier, what it does in this system) of each one that had a part in it."""
        yield from ()

    def key_weights(self) -> Mapping[str, float]:
        """The features that conversion searches in the place of those it reads, with weights; {} where it reads what it searches."""
        return {}

    def codebook_name(self) -> str:
        """The codebook whose residual the system uses, "" for none."""
        return ""

    def bottleneck_stage(self) -> str:
        """Stage whose model narrows the residual to speaking variation, "" for none."""
        return ""

    def sampling(self) -> Mapping[str, Any]:
        """How an iterative sampler runs: what was sampled, sampler, steps and calls of the network; {} without one."""
        return {}

    def content_models(self) -> tuple[str, ...]:
        """Stages whose model has a content encoder that can be probed for the speaker."""
        return ()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of nested options."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
