"""A study: every section of the configuration together."""

from __future__ import annotations

from pydantic import Field

from bowerbird.config.base import Section
from bowerbird.config.sections.codebook import CodebookConfig
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.config.sections.report import ReportConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.sections.training import TrainingConfig
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.config.systems.registry import Experiment


class Config(Section):
    """A study."""

    run: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="results go to <results>/<run>/")
    results: str = Field("results", description="folder of all runs")
    strict: bool = Field(False, description="models of a hub without a pinned commit are an error, not a warning")
    corpus: CorpusConfig = Field(default_factory=CorpusConfig, description="where the speech is")
    features: dict[str, FeaturesConfig] = Field(default_factory=dict, description="variants by name")
    codebook: dict[str, CodebookConfig] = Field(default_factory=dict, description="variants by name")
    pairs: dict[str, PairsConfig] = Field(default_factory=dict, description="variants by name")
    trials: TrialsConfig = Field(default_factory=TrialsConfig, description="what is converted")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="checkpoints and logs")
    experiments: dict[str, Experiment] = Field(
        default_factory=dict, description="systems and what differs from their defaults"
    )
    conversion: ConversionConfig = Field(default_factory=ConversionConfig, description="how waveforms are written")
    evaluation: EvaluationConfig = Field(
        default_factory=EvaluationConfig, description="recognizers, verifiers and scorers"
    )
    report: ReportConfig = Field(default_factory=ReportConfig, description="the page")
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig, description="how things run here")

    def pair_methods(self) -> dict[str, str]:
        """How each variant of pairs is made."""
        return {name: section.method for name, section in self.pairs.items()}
