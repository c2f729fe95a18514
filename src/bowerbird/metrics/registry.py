"""Every metric, stated once: its name, heading, unit and direction, its definition, and how its trials are combined.

A metric that is computed anywhere stands here. Score tables take its definition from here, the summary how its trials are
combined, and the report how it is shown. Metrics of the second verifier are derived from those of the first; opinion scores
have names that the configuration gives and are described by `find_metric`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from bowerbird.metrics.statistics import Statistic, equal_error_rate, pooled_ratio

NO_VALUE = "–"  # shown where there is none
SECOND = "_second"  # ends the names of what the second verifier computes
OPINIONS = {"utmos": "UTMOS", "nisqa": "NISQA"}  # headings of opinion scores by their usual names


@dataclass(frozen=True)
class Pooling:
    """How a metric of a whole list is computed, where it is no mean over trials.

    ``first`` and ``second`` name the rows of a trial that are summed to the two columns of the statistic: errors and units of
    the reference in a rate, scores that should be accepted and scores that should be rejected in an equal error rate.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    description: str
    statistic: Statistic = pooled_ratio

    @property
    def parts(self) -> tuple[str, ...]:
        """The rows of a trial that are needed, each once."""
        return tuple(dict.fromkeys((*self.first, *self.second)))


@dataclass(frozen=True)
class Metric:
    """What a metric is, and how its values are shown.

    ``better`` is 1 where higher values are better, -1 where lower ones are, 0 where neither is. Values in per cent are
    stored as shares and multiplied by 100 when shown. ``version`` goes up when the computation changes. Without ``pooling``
    the number of a list is the mean over its trials.
    """

    name: str
    heading: str
    family: str
    better: Literal[-1, 0, 1]
    description: str
    unit: str = ""
    digits: int = 3
    is_headline: bool = False
    version: int = 1
    pooling: Pooling | None = None

    @property
    def definition(self) -> str:
        """``<name>@<version>``: numbers of two definitions are never compared."""
        return f"{self.name}@{self.version}"

    @property
    def is_percent(self) -> bool:
        """Whether values are shares, shown in per cent."""
        return self.unit == "%"

    @property
    def arrow(self) -> str:
        """An arrow up or down for the better direction; "" where there is none."""
        return {1: "↑", -1: "↓", 0: ""}[self.better]

    @property
    def direction(self) -> str:
        """The better direction in words."""
        return {1: "higher is better", -1: "lower is better", 0: "neither direction is better"}[self.better]

    def show(self, value: float | None) -> str:
        """A value with its digits and without its unit; a dash where there is none."""
        if value is None or not math.isfinite(value):
            return NO_VALUE
        text = f"{100 * value:.1f}" if self.is_percent else f"{value:.{self.digits}f}"
        return text.replace("-", "\u2212")


def _error_rate(unit: str, description: str) -> Pooling:
    """Errors over units of the reference, from the counts of ``unit`` (word, char, dword)."""
    errors = tuple(f"{unit}_{name}" for name in ("substitutions", "deletions", "insertions"))
    units = tuple(f"{unit}_{name}" for name in ("hits", "substitutions", "deletions"))
    return Pooling(errors, units, description)


def _equal_errors(accepted: str, rejected: str) -> Pooling:
    """The equal error rate of telling the scores ``accepted`` from the scores ``rejected``."""
    return Pooling((accepted,), (rejected,), "equal error rate over the list", equal_error_rate)


INTELLIGIBILITY = (
    Metric(
        "wer",
        "WER",
        "intelligibility",
        -1,
        "word errors over words of the reference, pooled over trials",
        unit="%",
        pooling=_error_rate("word", "errors / words, summed over trials"),
        is_headline=True,
    ),
    Metric(
        "cer",
        "CER",
        "intelligibility",
        -1,
        "character errors over characters of the reference, pooled over trials",
        unit="%",
        pooling=_error_rate("char", "errors / characters, summed over trials"),
        is_headline=True,
    ),
    Metric(
        "dwer",
        "dWER",
        "intelligibility",
        -1,
        "word errors against what the same recognizer reads in the source, pooled",
        unit="%",
        pooling=_error_rate("dword", "errors / words recognized in the source, summed over trials"),
    ),
    Metric("mwer", "mWER", "intelligibility", -1, "mean over trials of each one's own word error rate", unit="%"),
    Metric("mcer", "mCER", "intelligibility", -1, "mean over trials of each one's own character error rate", unit="%"),
    Metric(
        "sentence_accuracy",
        "Sentence",
        "intelligibility",
        1,
        "trials whose sentence was recognized among all the trials' sentences",
        unit="%",
    ),
)

SPEAKER = (
    Metric(
        "secs",
        "SECS",
        "speaker",
        1,
        "cosine of conversion and held-out utterance of the target, which no system was given",
        is_headline=True,
    ),
    Metric(
        "secs_prompt",
        "SECS to the references",
        "speaker",
        1,
        "cosine with the mean of the references, which the system was given",
    ),
    Metric(
        "src",
        "SRC",
        "speaker",
        -1,
        "cosine of conversion and source: how much of the source's voice is left",
        is_headline=True,
    ),
    Metric("margin", "SECS − SRC", "speaker", 1, "how much nearer to the target than to the source"),
    Metric(
        "nearer_target",
        "Nearer target",
        "speaker",
        1,
        "trials whose conversion is nearer to the target than to the source",
        unit="%",
        is_headline=True,
    ),
    Metric(
        "secs_rel",
        "SECS rel",
        "speaker",
        1,
        "share of the way from the source's voice to the target's own speech",
        unit="%",
        pooling=Pooling(("secs_gain",), ("secs_span",), "gain in cosine / possible gain, summed over trials"),
    ),
    Metric(
        "eer_ind",
        "EER ind",
        "speaker",
        1,
        "equal error rate of telling real target speech from converted: 50 % is as near as real speech",
        unit="%",
        pooling=_equal_errors("secs_real", "secs"),
    ),
    Metric(
        "eer_ver",
        "EER ver",
        "speaker",
        -1,
        "equal error rate of telling the conversion's target from a third speaker",
        unit="%",
        pooling=_equal_errors("secs", "secs_other"),
    ),
    Metric(
        "acc_eer",
        "ACC@EER",
        "speaker",
        1,
        "conversions that the verifier accepts at its own equal-error threshold",
        unit="%",
    ),
)

PROSODY = (
    Metric(
        "f0_pcc",
        "F0 PCC",
        "prosody",
        1,
        "correlation of log F0 with the source, over frames voiced in both",
        version=2,
        is_headline=True,
    ),
    Metric(
        "f0_rmse_centred",
        "F0 RMSE",
        "prosody",
        -1,
        "root mean square difference of pitch from the source in semitones, each track's own mean removed",
        unit="semitones",
        digits=2,
    ),
    Metric("vuv_f1", "Voicing F1", "prosody", 1, "F1 of voiced frames against the source's"),
    Metric("epcc", "Energy PCC", "prosody", 1, "correlation of energy in dB with the source"),
    Metric(
        "f0_pcc_zeros",
        "F0 PCC with zeros",
        "prosody",
        0,
        "FreeVC's definition, for comparison with published tables only: mostly measures voicing",
    ),
)

QUALITY = (
    Metric(
        "dnsmos_ovrl",
        "DNSMOS",
        "quality",
        1,
        "estimated overall opinion score (P.835), 1 to 5",
        unit="MOS",
        digits=2,
        is_headline=True,
    ),
    Metric(
        "distill_mos",
        "Distill-MOS",
        "quality",
        1,
        "estimated opinion score, distilled from a model on XLS-R, 1 to 5",
        unit="MOS",
        digits=2,
        is_headline=True,
    ),
    Metric(
        "dnsmos_sig",
        "DNSMOS SIG",
        "quality",
        1,
        "estimated opinion of the speech (P.835), 1 to 5",
        unit="MOS",
        digits=2,
    ),
    Metric(
        "dnsmos_bak",
        "DNSMOS BAK",
        "quality",
        1,
        "estimated opinion of the background (P.835), 1 to 5",
        unit="MOS",
        digits=2,
    ),
    Metric(
        "dnsmos_p808",
        "P.808",
        "quality",
        1,
        "estimated opinion score (P.808), 1 to 5",
        unit="MOS",
        digits=2,
        is_headline=True,
    ),
    Metric(
        "mcd",
        "MCD",
        "quality",
        -1,
        "mel-cepstral distortion to the target saying the sentence, dB",
        unit="dB",
        digits=2,
    ),
)


def by_second_verifier(metric: Metric) -> Metric:
    """The same metric as the second verifier computes it, from rows of its own."""
    pooling = metric.pooling
    if pooling:
        first, second = (tuple(f"{part}{SECOND}" for part in parts) for parts in (pooling.first, pooling.second))
        pooling = replace(pooling, first=first, second=second)
    return replace(
        metric,
        name=f"{metric.name}{SECOND}",
        heading=f"{metric.heading}, second verifier",
        description="as its namesake, by the second verifier",
        is_headline=False,
        pooling=pooling,
    )


# by name, in the order in which they are shown
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (*INTELLIGIBILITY, *SPEAKER, *map(by_second_verifier, SPEAKER), *PROSODY, *QUALITY)
}

# rows of a trial that pooled metrics are computed from and that are no metrics themselves
PARTS = {part for metric in METRICS.values() if metric.pooling for part in metric.pooling.parts} - METRICS.keys()


def trial_rows(family: str) -> tuple[str, ...]:
    """Names of the rows of one trial and one verifier: the family's metrics, of pooled ones what they are computed from."""
    metrics = [metric for metric in METRICS.values() if metric.family == family and not metric.name.endswith(SECOND)]
    rows = [part for metric in metrics for part in (metric.pooling.parts if metric.pooling else (metric.name,))]
    return tuple(dict.fromkeys(rows))


def find_metric(name: str, opinions: Iterable[str] = ()) -> Metric:
    """The metric of that name.

    ``opinions`` are the names in ``evaluation.opinions``: an opinion score bears one of them, or one of them and a dimension
    (``nisqa_noisiness``). A name that is neither listed nor an opinion has no direction, and itself as its heading.
    """
    if name in METRICS:
        return METRICS[name]
    for opinion in opinions:
        if name == opinion or name.startswith(f"{opinion}_"):
            dimension = name.removeprefix(opinion).replace("_", " ")
            heading = f"{OPINIONS.get(opinion, opinion)}{dimension}"
            description = "estimated opinion score by a model from a local folder, 1 to 5"
            return Metric(name, heading, "quality", 1, description, unit="MOS", digits=2, is_headline=name == opinion)
    return Metric(name, name, "", 0, "")


def definition_of(name: str) -> str:
    """The definition that a score row records, ``<name>@<version>``; rows that are no listed metric are at version 1."""
    return find_metric(name).definition
