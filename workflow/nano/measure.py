"""Measure the bundled models against their targets: the table of docs/nano.md, on real speakers that none of them was trained on.

    make run PRESET=nano-check DATA=DATA/librispeech-mini
    python workflow/nano/measure.py --run results/nano-check --corpus DATA/librispeech-mini --cache alignments

Phones are compared by `probe_encoder.py` (retrieval across speakers). Speech is compared by the scores of the run: conversions by
kNN-VC and copy synthesis by the bundled vocoders, scored by the recognizer, the verifier and the opinion scorers of the study.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from export_model import LIMIT_MB
from probe_encoder import gather, load_corpus, measure_retrieval
from transformers import WavLMModel

from bowerbird.artifacts.models import read_model_config
from bowerbird.config.paths import bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import FeatureExtractor


@dataclass(frozen=True)
class Row:
    """One line of the table: what is measured, the value that was found, and the bounds between which it should lie."""

    name: str
    found: float
    low: float = -1.0  # none
    high: float = float("inf")
    form: str = "{:.3f}"
    beside: str = ""

    def text(self) -> str:
        """The line, in Markdown."""
        bounds = [f"≥ {self.form.format(self.low)}"] if self.low > -1.0 else []
        bounds += [f"≤ {self.form.format(self.high)}"] if self.high < float("inf") else []
        verdict = ("reached" if self.low <= self.found <= self.high else "missed") if bounds else ""
        return f"| {self.name} | {self.form.format(self.found)} | {' '.join(bounds)} | {verdict} | {self.beside} |"


COPIES = {"vocoder-world": "WORLD", "vocoder-mel": "mels to WORLD", "vocoder": "nano-encoder's features"}
PERCENT = "{:.1%}"


def speech_rows(scores: Mapping[tuple[str, str], float]) -> list[Row]:
    """The targets of the vocoders and of kNN-VC, from means by (experiment, metric)."""

    def row(name: str, experiment: str, metric: str, form: str = "{:.3f}", **bounds: float) -> Row:
        original = scores.get(("ground-truth", metric))
        beside = "" if original is None else f"recordings {form.format(original)}"
        return Row(name, scores[experiment, metric], form=form, beside=beside, **bounds)

    rows = []
    for experiment, name in COPIES.items():
        if (experiment, "wer") not in scores:
            continue
        what = f"copy synthesis, {name}"
        rows += [
            row(f"{what}: WER", experiment, "wer", PERCENT, high=0.15),
            row(f"{what}: CER", experiment, "cer", PERCENT, high=0.07),
            row(f"{what}: similarity to the own speaker", experiment, "src", low=0.90),
        ]
        if (experiment, "dnsmos_ovrl") in scores:
            gap = scores[experiment, "dnsmos_ovrl"] - scores["ground-truth", "dnsmos_ovrl"]
            rows.append(Row(f"{what}: DNSMOS OVRL less the recordings'", gap, low=-0.25))
        if (experiment, "distill_mos") in scores:
            rows.append(row(f"{what}: Distill-MOS", experiment, "distill_mos", "{:.2f}", low=3.3))
    rows += [
        row("kNN-VC: WER", "knnvc", "wer", PERCENT, high=0.30),
        row("kNN-VC: CER", "knnvc", "cer", PERCENT),
        Row("kNN-VC: similarity to the target", scores["knnvc", "secs"], low=0.80),
        Row(
            "kNN-VC: nearer to the target than to the source", scores["knnvc", "nearer_target"], low=0.97, form=PERCENT
        ),
    ]
    if ("knnvc", "distill_mos") in scores:
        rows.append(row("kNN-VC: Distill-MOS", "knnvc", "distill_mos", "{:.2f}", low=2.8))
    return rows


def key_rows(corpus: Path, cache: Path | None) -> list[Row]:
    """How often the nearest frame of another speaker is of the same phone, by what is compared."""
    model = WavLMModel.from_pretrained(bundled("bundled:nano-encoder"), dtype=torch.float32).eval()
    spaces = {
        "layer 4 of Whisper base": {"encoder": "whisper-base", "layer": 4},
        "nano-key": {"encoder": "bundled:nano-key", "kind": "phonetic", "head": "keys"},
    }
    utterances = load_corpus(corpus, cache)
    frames = gather(utterances, model, {name: FeatureExtractor(FeaturesConfig(**o)) for name, o in spaces.items()})
    layer = int(read_model_config(Path(bundled("bundled:nano-phones")))["layer"])
    found = {
        name: measure_retrieval(frames, frames.features[feature])[0]
        for name, feature in (
            ("random", "random"),
            ("MFCC", "MFCC+deltas"),
            ("nano-encoder", f"layer {layer}"),
            *((space, space) for space in spaces),
        )
    }
    return [
        Row(
            f"nearest frame of another speaker is of the same phone: {name}",
            value,
            0.70 if name == "nano-key" else -1.0,
            form=PERCENT,
        )
        for name, value in found.items()
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
    rows = [*key_rows(options.corpus, options.cache), *speech_rows(scores), size_row()]
    print("\n| | found | target | | beside |\n| --- | --- | --- | --- | --- |")
    print("\n".join(row.text() for row in rows))


if __name__ == "__main__":
    main()
