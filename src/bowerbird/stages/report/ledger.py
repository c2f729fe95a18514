"""What a run took, as the page shows it: a line per stage and variant, and the speed of conversion by its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bowerbird.stages.report.costs import Cost, read_costs, total_cost
from bowerbird.stages.report.run_data import Run

FIRST_STEP, LAST_STEPS = "reading", ("conversion", "writing")  # of every conversion; between them, those of its system


@dataclass(frozen=True)
class LedgerLine:
    """What a stage, or one variant of it, took; ``speech_s`` are the seconds of speech that its jobs went over once."""

    name: str
    cost: Cost
    speech_s: float = 0.0
    parts: list[LedgerLine] = field(default_factory=list)

    @property
    def rtf(self) -> float | None:
        """Real-time factor, seconds of work per second of speech; None where no speech goes through once (training)."""
        work = self.cost.recorded
        return work.seconds / self.speech_s if self.speech_s and work.jobs else None

    @property
    def wall_s(self) -> float | None:
        """Seconds with the start of the processes; None where the workflow measured none."""
        return self.cost.measured.seconds if self.cost.measured.jobs else None


@dataclass(frozen=True)
class ConversionSpeed:
    """Real-time factor of each step of an experiment's conversions, and the seconds of audio that were made."""

    experiment: str
    rtf: Mapping[str, float]
    audio_s: float


@dataclass(frozen=True)
class SamplerSpeed:
    """What conversions took with one setting of an iterative sampler."""

    experiment: str
    title: str  # of the system
    model: str  # the experiment that trained what is sampled, with the other options that change its cost
    sampler: str
    steps: int
    calls: int  # of the network for one conversion
    step: str  # of the conversion, in which the sampler runs
    speed: ConversionSpeed


@dataclass(frozen=True)
class Ledger:
    """What a run took."""

    run: Run

    @cached_property
    def costs(self) -> list[Cost]:
        """Costs of all stages but the report, which is being written."""
        return [cost for cost in read_costs(self.run.graph, self.run.records) if cost.stage != "report"]

    @cached_property
    def lines(self) -> list[LedgerLine]:
        """A line per stage in the order of the data, with a part per variant."""
        lines = []
        for stage in dict.fromkeys(cost.stage for cost in self.costs):
            costs = [cost for cost in self.costs if cost.stage == stage]
            speech_s = [self._speech_s(cost) for cost in costs]
            parts = [LedgerLine(cost.variant, cost, s) for cost, s in zip(costs, speech_s, strict=True) if cost.variant]
            lines.append(LedgerLine(stage, total_cost(stage, costs), sum(speech_s), parts))
        return lines

    @property
    def total(self) -> LedgerLine:
        """The whole run as one line."""
        return LedgerLine("all", total_cost("all", self.costs))

    def _speech_s(self, cost: Cost) -> float:
        """Speech of the corpus where the work grows with it, of its conversions for conversion and evaluation."""
        if cost.growing_share:
            return self.run.speech_s
        if cost.stage in ("conversion", "evaluation") and cost.variant:
            record = self.run.records.get(self.run.paths.conversion(cost.variant), {})
            return float(record.get("audio_s", 0.0))
        return 0.0

    @cached_property
    def speeds(self) -> list[ConversionSpeed]:
        """Speed of every experiment whose conversions were timed."""
        found = []
        for name in self.run.config.experiments:
            record = self.run.records.get(self.run.paths.conversion(name), {})
            if record.get("rtf"):
                found.append(ConversionSpeed(name, dict(record["rtf"]), float(record.get("audio_s", 0.0))))
        return found

    @cached_property
    def sampler_speeds(self) -> list[SamplerSpeed]:
        """Speeds by the setting of a sampler, of models that were sampled in more than one way."""
        found: dict[str, list[SamplerSpeed]] = {}
        for speed in self.speeds:
            experiment = self.run.config.experiments[speed.experiment]
            sampling = experiment.sampling()
            if not sampling or sampling["stage"] not in speed.rtf:
                continue
            model = f"{experiment.model(sampling['stage']).name or speed.experiment}, {sampling['options']}"
            setting = (str(sampling["sampler"]), int(sampling["steps"]), int(sampling["calls"]))
            one = SamplerSpeed(
                speed.experiment,
                experiment.title(self.run.config.pair_methods()),
                model,
                *setting,
                sampling["stage"],
                speed,
            )
            found.setdefault(model, []).append(one)
        groups = [group for group in found.values() if len({(s.sampler, s.steps) for s in group}) > 1]
        return sorted((s for group in groups for s in group), key=lambda s: (s.model, s.sampler, s.steps, s.experiment))


def steps_in_order(speeds: Iterable[ConversionSpeed]) -> list[str]:
    """The steps of conversions in the order in which they are made, each once."""
    steps = list(dict.fromkeys(step for speed in speeds for step in speed.rtf))
    first = [step for step in steps if step == FIRST_STEP]
    middle = [step for step in steps if step not in (FIRST_STEP, *LAST_STEPS)]
    return [*first, *middle, *(step for step in LAST_STEPS if step in steps)]


def sampler_steps(speeds: Sequence[SamplerSpeed]) -> list[str]:
    """The steps of conversions with a sampler, without reading and writing of files."""
    return [s for s in steps_in_order(one.speed for one in speeds) if s not in (FIRST_STEP, LAST_STEPS[-1])]
