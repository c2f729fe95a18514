"""Measure the bundled models against their targets: the table of docs/nano.md, on real speakers that none of them was trained on.

    make run PRESET=nano-check DATA=DATA/librispeech-mini
    python workflow/nano/measure.py --run results/nano-check --corpus DATA/librispeech-mini --cache alignments

Phones are compared by `probe_encoder.py` (retrieval across speakers, beside MFCC and log-mel spectra). Speech is compared by the scores
of the run: conversions by kNN-VC and copy synthesis by the bundled vocoder, scored by the bundled recognizer and verifier.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from export_model import LIMIT_MB
from probe_encoder import gather, load_corpus, measure_retrieval, real_time_factor
from transformers import WavLMModel

from bowerbird.artifacts.models import read_model_config
from bowerbird.config.paths import bundled


@dataclass(frozen=True)
class Row:
    """One line of the table: what is measured, the value that was found, and the bounds between which it should lie."""

    name: str
    found: float
    low: float = float("-inf")
    high: float = float("inf")
    form: str = "{:.3f}"
    beside: str = ""

    def text(self) -> str:
        """The line, in Markdown."""
        bounds = [f"≥ {self.form.format(self.low)}"] if self.low > float("-inf") else []
        bounds += [f"≤ {self.form.format(self.high)}"] if self.high < float("inf") else []
        verdict = ("reached" if self.low <= self.found <= self.high else "missed") if bounds else ""
        return f"| {self.name} | {self.form.format(self.found)} | {' '.join(bounds)} | {verdict} | {self.beside} |"


def speech_rows(scores: Mapping[tuple[str, str], float]) -> list[Row]:
    """The targets of the vocoder and of kNN-VC, from means by (experiment, metric)."""
    rows = []
    if ("vocoder", "dnsmos_ovrl") in scores:
        original = scores["ground-truth", "dnsmos_ovrl"]
        gap = scores["vocoder", "dnsmos_ovrl"] - original
        rows.append(
            Row("copy synthesis: DNSMOS OVRL less the original's", gap, low=-0.3, beside=f"original {original:.2f}")
        )
    if ("vocoder", "distill_mos") in scores:
        original = scores["ground-truth", "distill_mos"]
        gap = scores["vocoder", "distill_mos"] - original
        rows.append(Row("copy synthesis: Distill-MOS less the original's", gap, beside=f"original {original:.2f}"))
    beside = f"original {scores['ground-truth', 'sentence_accuracy']:.1%}"
    percent = "{:.1%}"
    return [
        *rows,
        Row("copy synthesis: similarity to the own speaker", scores["vocoder", "src"], low=0.85),
        Row(
            "copy synthesis: closed-set sentence accuracy",
            scores["vocoder", "sentence_accuracy"],
            low=0.97,
            form=percent,
            beside=beside,
        ),
        Row(
            "kNN-VC: nearer to the target than to the source",
            scores["knnvc", "nearer_target"],
            low=0.97,
            form=percent,
        ),
        Row("kNN-VC: similarity to the target", scores["knnvc", "secs"], low=0.80),
        Row(
            "kNN-VC: closed-set sentence accuracy",
            scores["knnvc", "sentence_accuracy"],
            form=percent,
            beside=beside,
        ),
    ]


def encoder_rows(corpus: Path, cache: Path | None) -> list[Row]:
    """The targets of the encoder: retrieval of phones across speakers, and speed."""
    layer = int(read_model_config(Path(bundled("bundled:nano-phones")))["layer"])
    model = WavLMModel.from_pretrained(bundled("bundled:nano-encoder"), dtype=torch.float32).eval()
    frames = gather(load_corpus(corpus, cache), model)
    ours, mfcc, mel, chance = (
        measure_retrieval(frames, frames.features[name])[0]
        for name in (f"layer {layer}", "MFCC+deltas", "log-mel", "random")
    )
    beside = f"MFCC {mfcc:.1%}, log-mel {mel:.1%}, chance {chance:.1%}"
    speed = real_time_factor(model, layer)
    return [
        Row(
            "encoder: nearest frame of another speaker is of the same phone",
            ours,
            2 * mfcc,
            form="{:.1%}",
            beside=beside,
        ),
        Row("encoder: real-time factor on one core", speed, high=0.02, form="{:.4f}"),
    ]


def size_row() -> Row:
    """The largest bundled file, in MB."""
    files = [path for path in Path(bundled("bundled:nano-encoder")).parent.rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    return Row(
        "largest bundled file, MB",
        largest.stat().st_size / 1e6,
        high=LIMIT_MB,
        form="{:.1f}",
        beside=largest.parent.name,
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="results folder of the preset nano-check")
    parser.add_argument("--corpus", type=Path, required=True, help="librispeech-mini; its test split is used")
    parser.add_argument("--cache", type=Path, help="folder that keeps the alignments")
    options = parser.parse_args()
    summary = options.run / "evaluation" / "summary.parquet"
    if not summary.is_file():
        parser.error(f"{summary}: not there; make it with: make run PRESET=nano-check DATA={options.corpus}")
    torch.set_num_threads(1)
    table = pd.read_parquet(summary)
    scores = {(row.experiment, row.metric): float(row.mean) for row in table.itertuples()}
    rows = [*encoder_rows(options.corpus, options.cache), *speech_rows(scores), size_row()]
    print("\n| | found | target | | beside |\n| --- | --- | --- | --- | --- |")
    print("\n".join(row.text() for row in rows))


if __name__ == "__main__":
    main()
