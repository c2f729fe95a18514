"""Statistics as pictures. matplotlib is loaded by whoever draws them, not here.

Letters: ``D`` dimensions, ``K`` codes, ``n`` frames, ``k`` neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bowerbird.inspection.diagnostics.result import Panel
from bowerbird.inspection.statistics import Drift, Hubs, SpeakerAccuracy
from bowerbird.stages.report.palette import BLUE, GOLD, INK, MOSS, RUST


def variance_panel(variances: np.ndarray, caption: str) -> Panel:
    """Share of the variance of each principal direction, from ``variances (D,)``, largest first."""

    def draw(axes: Any) -> None:
        share = variances / max(float(variances.sum()), 1.0e-12)
        axes.semilogy(np.arange(1, len(share) + 1), np.maximum(share, 1.0e-9), color=GOLD, lw=1.4)
        axes.set(xlabel="principal direction", ylabel="share of the variance", xlim=(1, max(2, len(share))))
        axes.yaxis.set_major_formatter(_plain_number)
        axes.grid(True, axis="y")

    return Panel(draw, caption)


def _plain_number(value: float, _: int) -> str:
    """A number of a logarithmic axis without mark-up, which pictures here do not parse."""
    return f"{value:g}"


def deviation_panel(deviations: np.ndarray) -> Panel:
    """Standard deviations ``(D,)`` of the dimensions, largest first."""

    def draw(axes: Any) -> None:
        ordered = np.sort(deviations)[::-1]
        axes.fill_between(np.arange(1, len(ordered) + 1), ordered, color=BLUE, step="mid", alpha=0.75, lw=0)
        axes.set(xlabel="dimensions, widest first", ylabel="standard deviation", ylim=(0, None), xlim=(1, len(ordered)))

    return Panel(
        draw, "How much each dimension varies. Dead ones are at 0; one far above the others decides every cosine."
    )


def drift_panels(drift: Drift | None, label: str) -> list[Panel]:
    """The distance of each shard, beside its limit; no panel where there is one shard only."""
    if drift is None:
        return []

    def draw(axes: Any) -> None:
        places = drift.shards
        colors = [RUST if place in drift.suspects else GOLD for place in places]
        axes.bar(places, drift.distances, 0.6, color=colors, alpha=0.8)
        axes.hlines(drift.limits, places - 0.36, places + 0.36, color=INK, lw=1)
        axes.set(xlabel="shard", ylabel=label, ylim=(0, None), xlim=(-0.8, places.max() + 0.8))
        axes.xaxis.get_major_locator().set_params(integer=True)

    caption = (
        "Each shard beside the others. Line: what speakers alone explain, in nineteen of twenty random assignments."
    )
    return [Panel(draw, caption)]


def hub_panel(hubs: Hubs, frames: str) -> Panel:
    """How many frames are retrieved how often; ``frames`` names the axis."""

    def draw(axes: Any) -> None:
        most = max(int(hubs.times.max()), 1)
        axes.hist(hubs.times, bins=np.linspace(-0.5, most + 0.5, min(most + 2, 50)), color=MOSS, alpha=0.75, log=True)
        axes.set(xlabel=f"times among the {hubs.k} nearest", ylabel=frames)
        axes.yaxis.set_major_formatter(_plain_number)

    return Panel(
        draw, "How often a frame is retrieved. A long tail to the right are hubs, which are near to everything."
    )


def accuracy_panels(accuracies: Sequence[SpeakerAccuracy], caption: str) -> list[Panel]:
    """Accuracies beside their chance levels; no panel where none was measured."""
    if not accuracies:
        return []

    def draw(axes: Any) -> None:
        places = np.arange(len(accuracies))
        axes.bar(places, [100 * found.accuracy for found in accuracies], 0.5, color=GOLD, alpha=0.8)
        levels = [100 * found.chance_level for found in accuracies]
        axes.hlines(levels, places - 0.32, places + 0.32, color=INK, lw=1)
        axes.set_xticks(places, [found.source for found in accuracies])
        axes.set(ylabel="speaker recognized, %", ylim=(0, 100), xlim=(-0.7, max(len(accuracies), 2) - 0.3))

    return [Panel(draw, f"{caption} Line: chance level.")]


def code_use_panel(share: np.ndarray) -> Panel:
    """Use of the codes, from their shares of the frames ``(K,)``, largest first."""

    def draw(axes: Any) -> None:
        from bowerbird.stages.report.pictures import draw_code_use  # it loads matplotlib, which takes seconds

        draw_code_use(axes, share, BLUE)

    return Panel(draw, "Use of the codes; dashed: equal use of all of them.")


def cosine_panel(cosine: np.ndarray) -> Panel:
    """Cosines ``(n, k)`` by the place of the neighbor."""

    def draw(axes: Any) -> None:
        low, middle, high = np.quantile(cosine, (0.1, 0.5, 0.9), axis=0)
        places = np.arange(1, cosine.shape[1] + 1)
        axes.fill_between(places, low, high, color=BLUE, alpha=0.2, lw=0)
        axes.plot(places, middle, "o-", color=BLUE, ms=4, lw=1.2)
        axes.set(xlabel="place of the neighbor", ylabel="cosine to the query")
        axes.xaxis.get_major_locator().set_params(integer=True)

    return Panel(draw, "How near the neighbors are: median, and the middle 80 % of frames.")
