"""Pictures of a page: drawn with matplotlib and set into the page as SVG, in the page's own colors and fonts."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from markupsafe import Markup

from bowerbird.stages.report.palette import PLOT_STYLE, SERIES, SOFT, VARIABLES

matplotlib.use("Agg")

DASHED = (0, (3, 3))  # a line's style
Draw = Callable[[Any], None]  # draws on matplotlib axes


@dataclass(frozen=True)
class Picture:
    """An SVG element and its caption."""

    svg: Markup
    caption: str


class PictureMaker:
    """Draws the pictures of one page; each has ids that no other picture of the page has."""

    def __init__(self) -> None:
        self.count = 0

    def make(self, draw: Draw, caption: str, figsize: tuple[float, float] | None = None) -> Picture:
        """The picture that ``draw`` makes on fresh axes, ``figsize`` inches wide and high."""
        self.count += 1
        with matplotlib.rc_context(PLOT_STYLE):  # type: ignore[arg-type]  # the stub knows no plain str keys
            figure, axes = plt.subplots(layout="constrained", figsize=figsize)
            draw(axes)
            return Picture(svg_element(figure, f"f{self.count}", caption), caption)


def svg_element(figure: Any, prefix: str, caption: str) -> Markup:
    """A matplotlib figure as an SVG element as wide as its place, with ids that begin with ``prefix``; it is closed."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    for _ in ("height", "width"):
        text = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", text)
    for color, name in VARIABLES.items():
        text = text.replace(color, f"var(--{name})")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1))


def draw_histograms(axes: Any, series: Iterable[tuple[str, np.ndarray]]) -> None:
    """Draw outlined histograms of named values ``(N,)`` on common bins; NaN is left out."""
    known = [(name, values[~np.isnan(values)]) for name, values in series]
    known = [(name, values) for name, values in known if len(values)]
    if not known:
        return
    low, high = min(v.min() for _, v in known), max(v.max() for _, v in known)
    bins = np.linspace(low, high if high > low else low + 1e-6, 31)
    for number, (name, values) in enumerate(known):
        color = SERIES[number % len(SERIES)]
        axes.hist(values, bins=bins, color=color, alpha=0.45, histtype="stepfilled", label=name)
        axes.hist(values, bins=bins, color=color, histtype="step", lw=1.2)
    if len(known) > 1:
        axes.legend(fontsize=8, handlelength=1)


def draw_code_use(axes: Any, share: np.ndarray, color: str) -> None:
    """Draw shares of frames ``(K,)``, the largest first, with a dashed line where all would be equal."""
    axes.fill_between(np.arange(1, len(share) + 1), 100 * share, color=color, step="mid", alpha=0.75, lw=0)
    axes.axhline(100 / len(share), color=SOFT, lw=0.8, ls=DASHED)
    axes.set(xlabel="codes, most used first", ylabel="share of frames, %", ylim=(0, None), xlim=(1, len(share)))
