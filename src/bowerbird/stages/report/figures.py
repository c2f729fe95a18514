"""The figures of the report: what is drawn of a run's scores, codebooks, pairs, training and speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.config.base import one_line
from bowerbird.metrics.registry import METRICS, Metric
from bowerbird.stages.report.ledger import SamplerSpeed
from bowerbird.stages.report.palette import BLUE, GOLD, INK, LINE, RUST, SERIES, SOFT
from bowerbird.stages.report.pictures import DASHED, Draw, Picture, PictureMaker, draw_code_use, draw_histograms
from bowerbird.stages.report.run_data import DescribedTable, Run
from bowerbird.stages.report.tables import ReportedSystem, ScoreCell, Scores

CROWDED = 9  # more points than that are named in a column beside the axes
ERROR_RATES = ("wer", "cer")  # the first that was scored is drawn against similarity
OVER_SIZES = ("wer", "cer", "secs", "f0_pcc")  # drawn over the size of the codebook
MOST_SPEAKERS = 12  # that a legend names
RESIDUAL_PARTS = {"S": "S", "Q": "Q", "R": "R", "s": "mean\nof R", "V": "R \u2212\nmean", "v": "channels"}
AGREEMENTS = (  # stats of pairs, their labels and colors
    ("unit_agreement_nearest", "nearest frame", GOLD),
    ("unit_agreement", "all k frames", BLUE),
    ("unit_agreement_random", "random frames", SOFT),
)


@dataclass(frozen=True)
class Figures:
    """All figures of the report; by name of the codebook or of the trained stage, where there are several of a kind."""

    tradeoff: Picture | None
    codebooks: dict[str, list[Picture]]
    residuals: dict[str, list[Picture]]
    codebook_sizes: list[Picture]
    pairs: list[Picture]
    curves: dict[str, list[Picture]]
    samplers: list[Picture]


def draw_figures(run: Run, scores: Scores, samplers: Sequence[SamplerSpeed]) -> Figures:
    """Draw everything that there is data for."""
    maker = PictureMaker()
    return Figures(
        tradeoff=_tradeoff(scores, maker),
        codebooks={book.name: _code_use(book.table, maker) for book in run.codebooks if len(book.table)},
        residuals={
            name: _residual(found.table, run.residual_points(name), maker) for name, found in run.residuals.items()
        },
        codebook_sizes=_codebook_sizes(run, scores, maker),
        pairs=_pairs([pairs for pairs in run.pairs if len(pairs.table)], maker),
        curves={name: _curves(table, maker) for name, table in run.curves.items()},
        samplers=_samplers(samplers, maker),
    )


def _tradeoff(scores: Scores, maker: PictureMaker) -> Picture | None:
    """Recognition errors against similarity to the target, with intervals."""
    similarity = METRICS["secs"]
    errors = next((METRICS[name] for name in ERROR_RATES if METRICS[name] in scores.metrics), None)
    points: list[tuple[ReportedSystem, ScoreCell, ScoreCell]] = []
    for system in scores.systems if errors else ():
        x, y = scores.cell(system, similarity), scores.cell(system, errors) if errors else None
        if x and y and x.has_value and y.has_value:
            points.append((system, x, y))
    if errors is None or not points:
        return None
    heading = errors.heading

    def draw(axes: Any) -> None:
        colors = {"system": GOLD, "control": RUST, "anchor": SOFT}
        for system, x, y in points:
            color = colors[system.kind]
            axes.plot([x.low, x.high], [100 * y.mean] * 2, color=color, lw=1.1, alpha=0.7)
            axes.plot([x.mean] * 2, [100 * y.low, 100 * y.high], color=color, lw=1.1, alpha=0.7)
            axes.plot(x.mean, 100 * y.mean, "o", color=color, ms=6)
        axes.set_xlabel(f"{similarity.heading} to the target →")
        axes.set_ylabel(f"← {heading}, %")
        axes.invert_yaxis()
        axes.grid(True)
        name_points(axes, [(system.name, x.mean, 100 * y.mean) for system, x, y in points])

    crowded = len(points) > CROWDED
    caption = (
        "Similarity to the target against recognition errors: up and to the right is better. Lines are the intervals."
    )
    return maker.make(draw, caption, (6.4 if crowded else 4.8, max(3.1, 0.19 * len(points)) if crowded else 3.1))


def name_points(axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Write names beside points; the names of many points stand in a column, with a line to each."""
    place = axes.transData.transform
    if len(points) <= CROWDED:
        axes.figure.draw_without_rendering()  # now places on the page are known
        _name_beside(axes, sorted(points, key=lambda p: (-place((p[1], p[2]))[1], p[0])))
        return
    line = {"arrowstyle": "-", "color": LINE, "lw": 0.7, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 4}
    ordered = sorted(points, key=lambda p: (place((p[1], p[2]))[1], p[0]))
    for number, (name, x, y) in enumerate(ordered):
        axes.annotate(
            name,
            (x, y),
            xytext=(1.05, (number + 0.5) / len(ordered)),
            textcoords="axes fraction",
            color=INK,
            fontsize=8,
            va="center",
            arrowprops=line,
        )


def _name_beside(axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Names towards the middle of the axes, from the top down, moved apart where they would touch."""
    middle = float(np.mean(axes.get_xlim()))
    taken: dict[bool, float] = {}
    for name, x, y in points:
        is_left = x < middle
        height = axes.transData.transform((x, y))[1] * 72 / axes.figure.dpi + 4
        place = min(height, taken.get(is_left, np.inf) - 11)
        taken[is_left] = place
        axes.annotate(
            name,
            (x, y),
            xytext=(7 if is_left else -7, place - height + 4),
            color=INK,
            fontsize=8,
            textcoords="offset points",
            ha="left" if is_left else "right",
        )


def _code_use(table: pd.DataFrame, maker: PictureMaker) -> list[Picture]:
    """How often each code is used, and by how many speakers."""
    share = np.sort(table["share"].to_numpy(dtype=float))[::-1]
    speakers = table["speakers"].to_numpy(dtype=int)

    def by_speaker(axes: Any) -> None:
        most = max(int(speakers.max(initial=1)), 1)
        axes.hist(speakers, bins=np.linspace(-0.5, most + 0.5, min(most + 2, 40)), color=BLUE, alpha=0.75, rwidth=0.9)
        axes.set(xlabel="speakers that use a code", ylabel="codes")
        axes.locator_params(integer=True)

    return [
        maker.make(
            lambda axes: draw_code_use(axes, share, GOLD), "Use of the codes; dashed: equal use of all of them."
        ),
        maker.make(
            by_speaker,
            "Speakers that use each code. A code that one speaker uses tells who speaks, and not what is said.",
        ),
    ]


def _residual(table: pd.DataFrame, points: pd.DataFrame, maker: PictureMaker) -> list[Picture]:
    """What linear probes recognize from each part of the split, and where speakers lie in the residual."""
    caption = "What a linear probe recognizes from each part: S features, Q centroids, R residual. Lines: chance level."
    pictures = [maker.make(lambda axes: _draw_probes(axes, table), caption)]
    if len(points):
        caption = "Mean residual of each second of speech, in two principal components, by speaker."
        seconds = points[points["representation"] == "s"]
        pictures.append(maker.make(lambda axes: _draw_speakers(axes, seconds), caption))
    return pictures


def _draw_probes(axes: Any, table: pd.DataFrame) -> None:
    names = [name for name in RESIDUAL_PARTS if name in set(table["representation"])]
    for shift, (target, color) in zip((-0.2, 0.2), (("speaker", GOLD), ("phone", BLUE)), strict=True):
        rows = table[table["target"] == target].set_index("representation")
        present = [number for number, name in enumerate(names) if name in rows.index]
        found = rows.loc[[names[number] for number in present]]
        axes.bar(np.array(present) + shift, 100 * found["accuracy"], 0.36, color=color, alpha=0.8, label=target)
        for number, chance in zip(present, found["chance"], strict=True):
            axes.plot([number + shift - 0.18, number + shift + 0.18], [100 * chance] * 2, color=INK, lw=1)
    widths = table.drop_duplicates("representation").set_index("representation")["dim"]
    labels = [f"{int(widths[name])}\n{RESIDUAL_PARTS[name]}" if name == "v" else RESIDUAL_PARTS[name] for name in names]
    axes.set_xticks(range(len(names)), labels)
    axes.set(ylabel="recognized, %", ylim=(0, 100))
    axes.legend(loc="upper right")


def _draw_speakers(axes: Any, points: pd.DataFrame) -> None:
    speakers = sorted(set(points["speaker"]))
    for number, speaker in enumerate(speakers[:MOST_SPEAKERS]):
        rows = points[points["speaker"] == speaker]
        marker, color = "osD^"[number // len(SERIES) % 4], SERIES[number % len(SERIES)]
        axes.plot(rows["x"], rows["y"], marker, ms=3.5, alpha=0.75, color=color, lw=0, label=speaker)
    axes.set(xlabel="first component", ylabel="second component")
    if len(speakers) <= MOST_SPEAKERS:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7, handletextpad=0.2)


@dataclass(frozen=True)
class SizeLine:
    """Experiments that differ only in the size of their codebook, as (codes, experiment)."""

    title: str  # of the system
    label: str
    color: str
    points: list[tuple[int, ReportedSystem]]


def _size_lines(run: Run, scores: Scores) -> list[SizeLine]:
    """Systems on a codebook by everything that they are trained with besides it; [] unless some have three sizes."""
    systems = {system.name: system for system in scores.systems}
    groups: dict[str, list[tuple[int, str]]] = {}
    for name, experiment in run.config.experiments.items():
        if codebook := experiment.codebook_name():
            alike = one_line([experiment.training_params(stage) for stage in experiment.stages])
            groups.setdefault(alike, []).append((run.config.codebook[codebook].num_codes, name))
    lines: list[SizeLine] = []
    for group in groups.values():
        first = run.config.experiments[group[0][1]]
        label, color = ("with compensation", GOLD) if first.bottleneck_stage() else ("without", RUST)
        if label in [line.label for line in lines]:
            label, color = f"{label}: {group[0][1]}", SERIES[len(lines) % len(SERIES)]
        points = [(codes, systems[name]) for codes, name in sorted(group)]
        if len({codes for codes, _ in group}) > 1:
            lines.append(SizeLine(first.title(run.config.pair_methods()), label, color, points))
    is_study = any(len({codes for codes, _ in line.points}) > 2 for line in lines)
    return lines if is_study else []


def _codebook_sizes(run: Run, scores: Scores, maker: PictureMaker) -> list[Picture]:
    """Scores over the size of the codebook, with and without compensation of speaking variation."""
    lines = _size_lines(run, scores)
    metrics = [METRICS[name] for name in OVER_SIZES if METRICS[name] in scores.metrics]
    return [
        maker.make(
            _draw_over_sizes(lines, metric, scores),
            f"{lines[0].title}: {metric.heading} over the size of the codebook; bands are the intervals.",
        )
        for metric in (metrics if lines else ())
    ]


def _draw_over_sizes(lines: Sequence[SizeLine], metric: Metric, scores: Scores) -> Draw:
    def draw(axes: Any) -> None:
        factor = 100 if metric.is_percent else 1
        for line in lines:
            cells = [(codes, scores.cell(system, metric)) for codes, system in line.points]
            known = [(codes, cell) for codes, cell in cells if cell and cell.has_value]
            x = [codes for codes, _ in known]
            axes.plot(x, [factor * c.mean for _, c in known], "o-", color=line.color, ms=4, lw=1.2, label=line.label)
            low, high = [factor * c.low for _, c in known], [factor * c.high for _, c in known]
            axes.fill_between(x, low, high, color=line.color, alpha=0.15, lw=0)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="codes K", ylabel=metric.heading + (", %" if metric.is_percent else ""))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.legend()

    return draw


def _samplers(speeds: Sequence[SamplerSpeed], maker: PictureMaker) -> list[Picture]:
    """Real-time factors over the number of a sampler's steps: a line per model and sampler."""
    lines: dict[str, list[SamplerSpeed]] = {}
    for one in speeds:
        lines.setdefault(f"{one.model}, {one.sampler}", []).append(one)
    if not lines:
        return []

    def draw(axes: Any) -> None:
        for number, (name, points) in enumerate(lines.items()):
            color = SERIES[number % len(SERIES)]
            steps, of_step = [p.steps for p in points], [p.speed.rtf[p.step] for p in points]
            axes.plot(steps, of_step, "o-", color=color, ms=4, lw=1.2, label=name)
            if all("conversion" in p.speed.rtf for p in points):
                axes.plot(steps, [p.speed.rtf["conversion"] for p in points], color=color, lw=0.8, ls=DASHED)
        axes.set(xlabel="steps of the sampler", ylabel="real-time factor", xlim=(0, None), ylim=(0, None))
        axes.grid(True, axis="y")
        axes.legend(fontsize=8)

    title, step = speeds[0].title, speeds[0].step
    caption = f"{title}: real-time factor of the {step} over the sampler's steps; dashed: of the whole conversion."
    return [maker.make(draw, caption)]


def _pairs(variants: Sequence[DescribedTable], maker: PictureMaker) -> list[Picture]:
    """Variants beside each other: cosine, agreement with the query's unit, share of the pool that is used."""
    if not variants:
        return []

    def histograms(column: str, factor: float, xlabel: str) -> Draw:
        def draw(axes: Any) -> None:
            draw_histograms(axes, [(v.name, factor * v.table[column].to_numpy(dtype=float)) for v in variants])
            axes.set(xlabel=xlabel, ylabel="pairs")

        return draw

    known = [variant for variant in variants if "unit_agreement" in variant.stats]
    cosine = histograms("cosine_mean", 1, "cosine of query and retrieved frames, mean of a pair")
    coverage = histograms("coverage", 100, "share of the donor's pool retrieved, %")
    caption = "Similarity of the retrieved frames to their query. It does not show that the content agrees."
    pictures = [maker.make(cosine, caption)]
    if known:
        caption = "Agreement of content: frames with the query's unit, beside what random frames give."
        pictures.append(maker.make(lambda axes: _draw_agreement(axes, known), caption))
    return [*pictures, maker.make(coverage, "How much of the donor's speech is used.")]


def _draw_agreement(axes: Any, variants: Sequence[DescribedTable]) -> None:
    places = np.arange(len(variants))
    for number, (name, label, color) in enumerate(AGREEMENTS):
        heights = [100 * variant.stats.get(name, np.nan) for variant in variants]
        drawn = axes.bar(places + (number - 1) * 0.27, heights, 0.25, color=color, alpha=0.8, label=label)
        axes.bar_label(drawn, fmt="%.0f", padding=1, color=SOFT, fontsize=8)
    axes.set_xticks(places, [variant.name for variant in variants])
    axes.set(ylabel="with the query's unit, %")
    axes.set_xlim(-0.6, max(len(variants), 2) - 0.4)
    axes.margins(y=0.28)
    axes.legend(loc="upper center", ncols=3, fontsize=8, handlelength=1, columnspacing=1)


def _curves(table: pd.DataFrame, maker: PictureMaker) -> list[Picture]:
    """A picture per loss; the validation of the same name is drawn as points in it."""
    numeric = [c for c in table.columns if c != "step" and pd.api.types.is_numeric_dtype(table[c])]
    losses = [c for c in numeric if c != "learning_rate" and not c.startswith("valid/")]
    panels = {c: [c] for c in losses}
    for column in (c for c in numeric if c.startswith("valid/")):
        same = [c for c in losses if c.split("/")[-1] == column.removeprefix("valid/")]
        panels.setdefault(same[0] if len(same) == 1 else column, []).append(column)
    return [maker.make(_draw_curves(table, columns), " · ".join(columns), (3.6, 1.9)) for columns in panels.values()]


def _draw_curves(table: pd.DataFrame, columns: Sequence[str]) -> Draw:
    def draw(axes: Any) -> None:
        for column in columns:
            known = table[["step", column]].dropna()
            is_valid = column.startswith("valid/")
            marker = "o" if is_valid or len(known) == 1 else ""  # a line of one point would not be seen
            axes.plot(known["step"], known[column], marker=marker, ms=3.5, lw=1.1, color=BLUE if is_valid else GOLD)
        axes.set(xlabel="step")
        axes.grid(True, axis="y")

    return draw
