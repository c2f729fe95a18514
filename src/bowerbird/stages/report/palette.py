"""Colors of the pages, and the style of their pictures. No plotting library is loaded here.

A picture is drawn in colors that no data uses; `bowerbird.stages.report.pictures` replaces each by the variable of the style
sheet of that name, which differs by day and by night.
"""

from __future__ import annotations

from typing import Any

INK, SOFT, LINE, GOLD, BLUE, RUST, MOSS = (f"#0a0b{number:02x}" for number in range(7))
VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", GOLD: "gold", BLUE: "blue", RUST: "rust", MOSS: "moss"}
SERIES = (GOLD, BLUE, RUST, MOSS)  # of several lines or histograms, in this order
PLOT_STYLE: dict[str, Any] = {  # matplotlib's settings
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
