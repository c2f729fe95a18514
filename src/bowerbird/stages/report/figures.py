"""Pictures of a run, drawn with matplotlib and set into the page as SVG that takes its colours and letters from it."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from markupsafe import Markup

from bowerbird.metrics.registry import METRICS
from bowerbird.stages.report.run import Described, Run, Sampling
from bowerbird.stages.report.tables import Scores

matplotlib.use("Agg")


# Colours that stand for the page's own (style.css), which differ by day and by night.
INK, SOFT, LINE, GOLD, BLUE, RUST, MOSS = (f"#0a0b{number:02x}" for number in range(7))


NAMES = {INK: "ink", SOFT: "soft", LINE: "line", GOLD: "gold", BLUE: "blue", RUST: "rust", MOSS: "moss"}


SERIES = (GOLD, BLUE, RUST, MOSS)


STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "figure.figsize": (4.6, 2.6),
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "text.color": INK,
    "text.parse_math": False,  # names from data are never mark-up
    "legend.frameon": False,
    "legend.labelcolor": SOFT,
    "font.size": 9,
    "svg.hashsalt": "bowerbird",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Picture:
    """An SVG and its caption."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Figures:
    """All pictures of the page."""

    tradeoff: Picture | None
    codebooks: dict[str, list[Picture]]
    residuals: dict[str, list[Picture]]
    sweep: list[Picture]
    pairs: list[Picture]
    curves: dict[str, list[Picture]]
    sampling: list[Picture]


def draw_figures(run: Run, scores: Scores) -> Figures:
    """Draw everything there is data for."""
    numbers = count(1)
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]

        def picture(draw: Callable[[Any], None], caption: str, **size: Any) -> Picture:
            figure, axes = plt.subplots(layout="constrained", **size)
            draw(axes)
            return Picture(_inline(figure, f"f{next(numbers)}", caption), caption)

        return Figures(
            tradeoff=_tradeoff(scores, picture),
            codebooks={book.name: _codes(book.table, picture) for book in run.codebooks if len(book.table)},
            residuals={
                name: _residual(found.table, run.residual_places(name), picture)
                for name, found in run.residuals.items()
            },
            sweep=_sweep(run, scores, picture),
            pairs=_pairs([pairs for pairs in run.pairs if len(pairs.table)], picture),
            curves={name: _curves(table, picture) for name, table in run.curves.items()},
            sampling=_sampling(run.samplings, picture),
        )


Draw = Callable[..., Picture]


def _tradeoff(scores: Scores, picture: Draw) -> Picture | None:
    """Errors against similarity, with intervals."""
    says = next((m for m in (METRICS["wer"], METRICS["cer"]) if m in scores.metrics), None)
    if says is None or METRICS["secs"] not in scores.metrics:
        return None
    points: list[tuple[Any, Any, Any]] = [
        (s, scores.cell(s, METRICS["secs"]), scores.cell(s, says)) for s in scores.systems
    ]
    points = [(s, x, y) for s, x, y in points if x and y and x.has_value and y.has_value]
    if not points:
        return None

    def draw(axes: Any) -> None:
        colours = {"system": GOLD, "control": RUST, "anchor": SOFT}
        for system, x, y in points:
            axes.plot([x.low, x.high], [100 * y.mean] * 2, color=colours[system.kind], lw=1.1, alpha=0.7)
            axes.plot([x.mean] * 2, [100 * y.low, 100 * y.high], color=colours[system.kind], lw=1.1, alpha=0.7)
            axes.plot(x.mean, 100 * y.mean, "o", color=colours[system.kind], ms=6)
        axes.set_xlabel("SECS to the target →")
        axes.set_ylabel(f"← {says.heading}, %")
        axes.invert_yaxis()
        axes.grid(True)
        _name_points(axes, [(system.name, x.mean, 100 * y.mean) for system, x, y in points])

    tall = max(3.1, 0.19 * len(points)) if len(points) > CROWDED else 3.1
    return picture(
        draw,
        "Who speaks against what is said: up and to the right is good. Lines are the intervals.",
        figsize=(6.4 if len(points) > CROWDED else 4.8, tall),
    )


CROWDED = 9  # more points than that are named in a column beside the axes


def _name_points(axes: Any, points: list[tuple[str, float, float]]) -> None:
    """Names beside points, towards the middle, moved apart where they would touch; of many, in a column with lines."""
    if len(points) > CROWDED:
        ordered = sorted(points, key=lambda p: (axes.transData.transform((p[1], p[2]))[1], p[0]))
        for number, (name, x, y) in enumerate(ordered):
            axes.annotate(
                name,
                (x, y),
                xytext=(1.05, (number + 0.5) / len(ordered)),
                textcoords="axes fraction",
                color=INK,
                fontsize=8,
                va="center",
                arrowprops={
                    "arrowstyle": "-",
                    "color": LINE,
                    "lw": 0.7,
                    "relpos": (0, 0.5),
                    "shrinkA": 1,
                    "shrinkB": 4,
                },
            )
        return
    axes.figure.draw_without_rendering()  # now places on the page are known
    middle = float(np.mean(axes.get_xlim()))
    taken: dict[bool, float] = {}
    for name, x, y in sorted(points, key=lambda p: (-axes.transData.transform((p[1], p[2]))[1], p[0])):
        right = x < middle
        height = axes.transData.transform((x, y))[1] * 72 / axes.figure.dpi + 4
        place = min(height, taken.get(right, np.inf) - 11)
        taken[right] = place
        axes.annotate(
            name,
            (x, y),
            xytext=(7 if right else -7, place - height + 4),
            color=INK,
            fontsize=8,
            textcoords="offset points",
            ha="left" if right else "right",
        )


def _codes(table: pd.DataFrame, picture: Draw) -> list[Picture]:
    """How often each code is used, and by how many speakers."""
    share = 100 * np.sort(table["share"].to_numpy(dtype=float))[::-1]
    speakers = table["speakers"].to_numpy(dtype=int)

    def use(axes: Any) -> None:
        axes.fill_between(np.arange(1, len(share) + 1), share, color=GOLD, step="mid", alpha=0.75, lw=0)
        axes.axhline(100 / len(share), color=SOFT, lw=0.8, ls=(0, (3, 3)))
        axes.set(xlabel="codes, most used first", ylabel="share of frames, %", ylim=(0, None), xlim=(1, len(share)))

    def by_speaker(axes: Any) -> None:
        most = max(int(speakers.max(initial=1)), 1)
        axes.hist(speakers, bins=np.linspace(-0.5, most + 0.5, min(most + 2, 40)), color=BLUE, alpha=0.75, rwidth=0.9)
        axes.set(xlabel="speakers that use a code", ylabel="codes")
        axes.locator_params(integer=True)

    return [
        picture(use, "Use of the codes; dashed: if all were used equally."),
        picture(by_speaker, "How many speakers share a code. Codes of one speaker tell who speaks, not what is said."),
    ]


PARTS = {"S": "S", "Q": "Q", "R": "R", "s": "mean R", "V": "R \u2212 mean", "v": "8 channels"}


def _residual(table: pd.DataFrame, places: pd.DataFrame, picture: Draw) -> list[Picture]:
    """What linear probes read from each part of the split, and where voices lie in the residual."""

    def probes(axes: Any) -> None:
        names = [name for name in PARTS if name in set(table["representation"])]
        for shift, (target, colour) in zip((-0.2, 0.2), (("speaker", GOLD), ("phone", BLUE)), strict=True):
            rows = table[table["target"] == target].set_index("representation")
            present = [number for number, name in enumerate(names) if name in rows.index]
            of = rows.loc[[names[number] for number in present]]
            axes.bar(np.array(present) + shift, 100 * of["accuracy"], 0.36, color=colour, alpha=0.8, label=target)
            for number, chance in zip(present, of["chance"], strict=True):
                axes.plot([number + shift - 0.18, number + shift + 0.18], [100 * chance] * 2, color=INK, lw=1)
        axes.set_xticks(range(len(names)), [f"{table_width(table, name)}" for name in names])
        axes.set(ylabel="recognized, %", ylim=(0, 100))
        axes.legend(loc="upper right")

    def voices(axes: Any) -> None:
        seconds = places[places["representation"] == "s"]
        speakers = sorted(set(seconds["speaker"]))
        shown = speakers[:12]
        for number, speaker in enumerate(shown):
            rows = seconds[seconds["speaker"] == speaker]
            axes.plot(
                rows["x"],
                rows["y"],
                "osD^"[number // 4 % 4],
                ms=3.5,
                alpha=0.75,
                color=SERIES[number % len(SERIES)],
                lw=0,
                label=speaker,
            )
        axes.set(xlabel="first component", ylabel="second component")
        if len(speakers) <= 12:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7, handletextpad=0.2)

    pictures = [
        picture(
            probes, "What a linear probe recognizes from each part: S features, Q centroids, R residual. Lines: chance."
        )
    ]
    if len(places):
        pictures.append(
            picture(voices, "Mean residual of each second of speech, in two principal components, by speaker.")
        )
    return pictures


def table_width(table: pd.DataFrame, name: str) -> str:
    """Name of a part; the bottleneck's with its own width."""
    if name != "v":
        return PARTS[name]
    return f"{int(table.loc[table['representation'] == 'v', 'dim'].iloc[0])} channels"


def _sweep(run: Run, scores: Scores, picture: Draw) -> list[Picture]:
    """Scores of QR-VC over the size of its codebook, with and without compensation of speaking variation."""
    systems = {system.name: system for system in scores.systems}
    lines: dict[bool, list[tuple[int, Any]]] = {}
    for name, experiment in run.config.experiments.items():
        if experiment.system == "qrvc" and name in systems:
            stage = experiment.resynthesis
            if stage.assignment == "cosine" and stage.variation_dim in (0, 8):
                codes = run.config.codebook[experiment.codebook].num_codes
                lines.setdefault(stage.variation_dim > 0, []).append((codes, systems[name]))
    if max((len({codes for codes, _ in points}) for points in lines.values()), default=0) < 3:
        return []
    pictures = []
    for metric in (METRICS[name] for name in ("wer", "cer", "secs", "f0_pcc") if METRICS[name] in scores.metrics):

        def draw(axes: Any, metric: Any = metric) -> None:
            for compensated, colour, says in ((True, GOLD, "with compensation"), (False, RUST, "without")):
                cells: list[tuple[int, Any]] = [
                    (codes, scores.cell(s, metric))
                    for codes, s in sorted(lines.get(compensated, []), key=lambda p: p[0])
                ]
                cells = [(codes, cell) for codes, cell in cells if cell and cell.has_value]
                factor = 100 if metric.percent else 1
                x = [codes for codes, _ in cells]
                axes.plot(x, [factor * c.mean for _, c in cells], "o-", color=colour, ms=4, lw=1.2, label=says)
                axes.fill_between(
                    x,
                    [factor * c.low for _, c in cells],
                    [factor * c.high for _, c in cells],
                    color=colour,
                    alpha=0.15,
                    lw=0,
                )
            axes.set_xscale("log", base=2)
            axes.set(xlabel="codes K", ylabel=metric.heading + (", %" if metric.percent else ""))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.legend()

        pictures.append(
            picture(draw, f"QR-VC: {metric.heading} over the size of the codebook; bands are the intervals.")
        )
    return pictures


def _sampling(samplings: list[Sampling], picture: Draw) -> list[Picture]:
    """What the flow costs over the number of the sampler's steps: a line a model and sampler."""
    lines: dict[str, list[Sampling]] = {}
    for one in samplings:
        lines.setdefault(f"{one.model}, {one.sampler}", []).append(one)
    if not lines:
        return []

    def draw(axes: Any) -> None:
        for number, (name, points) in enumerate(lines.items()):
            colour = SERIES[number % len(SERIES)]
            steps, flow = [p.steps for p in points], [p.rtf["flow"] for p in points]
            axes.plot(steps, flow, "o-", color=colour, ms=4, lw=1.2, label=name)
            if all("conversion" in p.rtf for p in points):
                axes.plot(steps, [p.rtf["conversion"] for p in points], color=colour, lw=0.8, ls=(0, (3, 3)))
        axes.set(xlabel="steps of the sampler", ylabel="real-time factor", xlim=(0, None), ylim=(0, None))
        axes.grid(True, axis="y")
        axes.legend(fontsize=8)

    says = "Takin-VC: real-time factor of the flow over the sampler's steps; dashed: of the whole conversion."
    return [picture(draw, says)]


def _pairs(variants: list[Described], picture: Draw) -> list[Picture]:
    """Variants beside each other: nearness, agreement with the query's unit, share of the pool that is used."""
    if not variants:
        return []

    def cosine(axes: Any) -> None:
        _histograms(axes, [(v.name, v.table["cosine_mean"]) for v in variants])
        axes.set(xlabel="cosine of query and retrieved frames, mean of a pair", ylabel="pairs")

    def coverage(axes: Any) -> None:
        _histograms(axes, [(v.name, 100 * v.table["coverage"]) for v in variants])
        axes.set(xlabel="share of the donor's pool retrieved, %", ylabel="pairs")

    def agreement(axes: Any) -> None:
        bars = (
            ("unit_agreement_nearest", "nearest frame", GOLD),
            ("unit_agreement", "all k frames", BLUE),
            ("unit_agreement_random", "random frames", SOFT),
        )
        places = np.arange(len(known))
        for number, (name, label, colour) in enumerate(bars):
            heights = [100 * v.facts.get(name, np.nan) for v in known]
            drawn = axes.bar(places + (number - 1) * 0.27, heights, 0.25, color=colour, alpha=0.8, label=label)
            axes.bar_label(drawn, fmt="%.0f", padding=1, color=SOFT, fontsize=8)
        axes.set_xticks(places, [v.name for v in known])
        axes.set(ylabel="with the query's unit, %")
        axes.set_xlim(-0.6, max(len(known), 2) - 0.4)
        axes.margins(y=0.28)
        axes.legend(loc="upper center", ncols=3, fontsize=8, handlelength=1, columnspacing=1)

    known = [v for v in variants if "unit_agreement" in v.facts]
    pictures = [picture(cosine, "How near the retrieved frames are. Nearness alone proves nothing.")]
    if known:
        pictures.append(
            picture(agreement, "Do they say what the query says? Frames with the query's unit, against chance.")
        )
    return [*pictures, picture(coverage, "How much of the donor is used.")]


def _histograms(axes: Any, series: Iterable[tuple[str, pd.Series]]) -> None:
    """Outlined histograms on common bins, named where they lie."""
    known = [(name, values.dropna().to_numpy(dtype=float)) for name, values in series]
    known = [(name, values) for name, values in known if len(values)]
    if not known:
        return
    low, high = min(v.min() for _, v in known), max(v.max() for _, v in known)
    bins = np.linspace(low, high if high > low else low + 1e-6, 31)
    for number, (name, values) in enumerate(known):
        colour = SERIES[number % len(SERIES)]
        axes.hist(values, bins=bins, color=colour, alpha=0.45, histtype="stepfilled", label=name)
        axes.hist(values, bins=bins, color=colour, histtype="step", lw=1.2)
    if len(known) > 1:
        axes.legend(fontsize=8, handlelength=1)


def _curves(table: pd.DataFrame, picture: Draw) -> list[Picture]:
    """A panel a loss; validation of the same name as points in the same panel."""
    numeric = [c for c in table.columns if c != "step" and pd.api.types.is_numeric_dtype(table[c])]
    losses = [c for c in numeric if c != "learning_rate" and not c.startswith("valid/")]
    panels = {c: [c] for c in losses}
    for column in (c for c in numeric if c.startswith("valid/")):
        same = [c for c in losses if c.split("/")[-1] == column.removeprefix("valid/")]
        panels.setdefault(same[0] if len(same) == 1 else column, []).append(column)

    def panel(columns: list[str]) -> Callable[[Any], None]:
        def draw(axes: Any) -> None:
            for column in columns:
                known = table[["step", column]].dropna()
                style = {"marker": "o", "ms": 3.5, "color": BLUE} if column.startswith("valid/") else {"color": GOLD}
                axes.plot(known["step"], known[column], lw=1.1, **style)
            axes.set(xlabel="step")
            axes.grid(True, axis="y")

        return draw

    return [picture(panel(columns), " · ".join(columns), figsize=(3.6, 1.9)) for columns in panels.values()]


def _inline(figure: Any, prefix: str, caption: str) -> Markup:
    """A figure as an SVG element: the page's colours, fonts and width, and ids that no other picture has."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", text)
    for colour, name in NAMES.items():
        text = text.replace(colour, f"var(--{name})")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1))
