"""Pictures of a run, drawn with matplotlib into the report's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
import torchaudio

if TYPE_CHECKING:
    from bowerbird.report.gather import Run

INK, GOLD, BLUE, GREY = "#26323f", "#b8862b", "#3b6ea5", "#9aa5b1"
STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "svg.hashsalt": "bowerbird",
    "svg.fonttype": "none",
}


def draw_all(run: Run, folder: Path) -> dict[str, Any]:
    """Draw every picture; returns their paths relative to the report, by what they show."""
    with plt.rc_context(STYLE):  # type: ignore[arg-type]
        return {
            "tradeoff": _tradeoff(run, folder),
            "codebooks": {n: _codes(table, folder / f"codes-{n}.svg") for n, (table, _) in run.codebooks.items()},
            "pairs": _pairs(run, folder / "pairs.svg"),
            "curves": {name: _curves(table, folder / f"curves-{name.replace('/', '-')}.svg")
                       for name, table in run.curves.items()},
            "spectrograms": _spectrograms(run, folder),
        }  # fmt: skip


def _save(figure: Any, path: Path) -> str:
    keywords = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 110}
    figure.savefig(path, bbox_inches="tight", **keywords)
    plt.close(figure)
    return f"figures/{path.name}"


def _tradeoff(run: Run, folder: Path) -> str:
    """CER against SECS, with intervals: low and to the right is good."""
    points: list[Any] = [(s, run.cell(s.name, "cer"), run.cell(s.name, "secs")) for s in run.systems]
    points = [(s, x, y) for s, x, y in points if x and y and np.isfinite([x["mean"], y["mean"]]).all()]
    if not points:
        return ""
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    colours = {"system": GOLD, "control": BLUE, "anchor": GREY}
    for system, cer, secs in points:
        axes.errorbar(
            secs["mean"], cer["mean"], color=colours[system.kind], fmt="o", capsize=2, lw=1,
            xerr=[[max(0, secs["mean"] - secs["low"])], [max(0, secs["high"] - secs["mean"])]],
            yerr=[[max(0, cer["mean"] - cer["low"])], [max(0, cer["high"] - cer["mean"])]],
        )  # fmt: skip
        axes.annotate(system.name, (secs["mean"], cer["mean"]), xytext=(6, 5), textcoords="offset points")
    axes.set_xlabel("SECS to the target (higher is nearer)")
    axes.set_ylabel("CER (lower is clearer)")
    return _save(figure, folder / "tradeoff.svg")


def _codes(table: Any, path: Path) -> str:
    """How often each code is used, most used first, and how many speakers use it."""
    frames = np.sort(table["frames"].to_numpy())[::-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.3))
    left.fill_between(np.arange(len(frames)), frames, color=GOLD, step="mid", alpha=0.8, lw=0)
    left.set_xlabel("codes, most used first")
    left.set_ylabel("frames")
    speakers = table["speakers"].to_numpy()
    right.hist(speakers, bins=np.arange(0.5, max(speakers.max(initial=1), 1) + 1.5), color=BLUE, alpha=0.8)
    right.set_xlabel("speakers that use a code")
    right.set_ylabel("codes")
    return _save(figure, path)


def _pairs(run: Run, path: Path) -> str:
    """Cosine of query and retrieved frames, and agreement of their units, for every variant of pairs."""
    if not run.pairs:
        return ""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.5))
    palette = [GOLD, BLUE, GREY, INK]
    for number, (name, (table, _)) in enumerate(run.pairs.items()):
        if len(table):
            left.hist(table["cosine_mean"], bins=30, alpha=0.7, color=palette[number % 4], label=name)
    left.set_xlabel("mean cosine of an utterance")
    left.set_ylabel("utterances")
    left.legend(frameon=False)
    names = [name for name, (_, facts) in run.pairs.items() if "unit_agreement" in facts]
    if names:
        found = [run.pairs[name][1]["unit_agreement"] for name in names]
        chance = [run.pairs[name][1].get("unit_agreement_random", np.nan) for name in names]
        places = np.arange(len(names))
        right.bar(places - 0.18, found, 0.36, color=GOLD, label="retrieved")
        right.bar(places + 0.18, chance, 0.36, color=GREY, label="by chance")
        right.set_xticks(places, names)
        right.set_ylabel("same unit")
        right.legend(frameon=False)
    else:
        right.axis("off")
    return _save(figure, path)


def _curves(table: Any, path: Path) -> str:
    """Losses over steps; validation as points."""
    columns = [c for c in table.columns if c not in ("step", "learning_rate") and not c.endswith("total")]
    quantities = sorted({c.split("/")[-1] for c in columns})
    figure, panels = plt.subplots(
        1, max(1, len(quantities)), figsize=(2.4 * max(1, len(quantities)), 2.1), squeeze=False
    )
    for axes, quantity in zip(panels[0], quantities, strict=True):
        for column in (c for c in columns if c.split("/")[-1] == quantity):
            known = table[["step", column]].dropna()
            valid = column.startswith("valid")
            axes.plot(known["step"], known[column], "o-" if valid else "-", color=GOLD if valid else BLUE, lw=1, ms=3)
        axes.set_title(quantity, fontsize=9)
        axes.set_xlabel("step")
    figure.tight_layout()
    return _save(figure, path)


def _spectrograms(run: Run, folder: Path) -> dict[str, str]:
    """Log-mel spectrogram of every sound that is shown, on one scale."""
    to_mel = torchaudio.transforms.MelSpectrogram(16000, 1024, 640, 160, 0, 8000, n_mels=80)
    found: dict[str, str] = {}
    for trial in run.trials:
        for _, sound in trial["sounds"]:
            if sound in found:
                continue
            wave = torch.from_numpy(soundfile.read(folder.parent / sound, dtype="float32")[0])
            mel = to_mel(wave).clamp_min(1e-6).log().numpy()
            target = folder / f"{Path(sound).stem}.png"
            plt.imsave(target, mel[::-1][:, : 50 * 100], cmap="magma", vmin=-11, vmax=4)
            found[sound] = f"figures/{target.name}"
    return found
