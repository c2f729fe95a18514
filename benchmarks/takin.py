"""Nano Takin-VC as bundled, with and without voice print, on the demo's test voices: similarity to target and source.

    python benchmarks/takin.py --sentences 2

A row a trial, then means: cosines of GE2E embeddings with the target's last two sentences (`to target`) and with the
source speaker's. The judge is the model that also makes the voice print, so it may favour the one that hears it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from bowerbird.audio import SAMPLE_RATE, read_audio
from bowerbird.config.paths import bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.systems.takin import TakinExperiment
from bowerbird.encoders.extractors import open_extractor
from bowerbird.encoders.extractors import PhoneticEncoder
from bowerbird.encoders.speaker import load_speaker_encoder
from bowerbird.systems.load import load_system
from bowerbird.systems.base import Utterance

SPEAKERS = ("awb", "kal16", "rms", "slt")
MODELS = {"takin": "bundled:nano-takin", "no voice print": "bundled:nano-takin-no-voice-print"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=2, help="of each speaker, each to two others")
    parser.add_argument("--steps", type=int, default=10, help="of the sampler")
    options = parser.parse_args()
    torch.set_num_threads(1)
    features, phones, judge = open_extractor(FeaturesConfig()), PhoneticEncoder(), load_speaker_encoder("resemblyzer")
    root = Path(bundled("bundled:demo"))
    waves = {s: [torch.from_numpy(read_audio(root / s / f"{s}_{n:03d}.ogg")) for n in range(1, 13)] for s in SPEAKERS}
    voices = {speaker: judge.embed([torch.cat(waves[speaker][10:])])[0] for speaker in SPEAKERS}
    vocoder = Path(bundled("bundled:nano-vocoder-mel"))
    experiment = TakinExperiment(training="joint", sampling_steps=options.steps)
    systems = {
        name: load_system(experiment, {"flow": Path(bundled(spec)), "vocoder": vocoder})
        for name, spec in MODELS.items()
    }
    rows: list[dict[str, float]] = []
    for number in range(options.sentences):
        for place, source in enumerate(SPEAKERS):
            for target in {SPEAKERS[(place + number + step) % 4]: None for step in (1, 2)}:
                if target == source:
                    continue
                wave = waves[source][number]
                heard = features.extract(wave)
                spoken = Utterance(f"{source}{number}", wave, heard, phones.from_features(heard))
                references = [Utterance(f"{target}{n}", waves[target][n]) for n in range(6, 9)]
                row = {"source to target": float(judge.embed([wave])[0] @ voices[target])}
                for name, system in systems.items():
                    started = time.process_time()
                    with torch.inference_mode():
                        made = system.convert(spoken, references, {"trial_id": f"{source}{number}-{target}"}).wave
                    spent = time.process_time() - started
                    embedding = judge.embed([made])[0]
                    row[f"{name} to target"] = float(embedding @ voices[target])
                    row[f"{name} to source"] = float(embedding @ voices[source])
                    row[f"{name} CPU s/s"] = spent / (len(made) / SAMPLE_RATE)
                rows.append(row)
                print(f"{source}{number} -> {target}", " ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
    print(f"means of {len(rows)} trials, {options.steps} steps:")
    for name in rows[0]:
        print(f"  {name:28s} {np.mean([row[name] for row in rows]):.3f}")
    for other in ("no voice print to target", "source to target"):
        gains = np.array([row["takin to target"] - row[other] for row in rows])
        print(f"  takin less {other}: {gains.mean():+.3f}, standard error {gains.std(ddof=1) / len(gains) ** 0.5:.3f}")


if __name__ == "__main__":
    main()
