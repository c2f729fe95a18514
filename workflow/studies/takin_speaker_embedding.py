"""Does nano Takin-VC, as bundled, move to the target's voice, and what does the speaker embedding add to it?

    python workflow/studies/takin_speaker_embedding.py --sentences 2

Sentences of the demo's four test voices are converted to two others each, by the model with and the one without speaker embedding.

Prints one row per trial, then means: cosines of GE2E embeddings with the target's last two sentences (`to target`) and with the
source speaker's (`to source`), and seconds of CPU per second of speech. The verifier is the encoder of the speaker embedding, so it may
favor the model that reads it.

Letters: ``N`` samples, ``E`` dimension of a speaker embedding.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bowerbird.audio import SAMPLE_RATE, read_audio
from bowerbird.config.paths import bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.systems.takin import TakinExperiment
from bowerbird.encoders.extractors import PhoneticEncoder, open_extractor
from bowerbird.encoders.speaker import load_speaker_encoder
from bowerbird.systems.base import System, Utterance
from bowerbird.systems.load import load_system

SPEAKERS = ("awb", "kal16", "rms", "slt")
WITH, WITHOUT = "takin", "no speaker embedding"
MODELS = {WITH: "bundled:nano-takin", WITHOUT: "bundled:nano-takin-no-speaker-embedding"}


class Bench:
    """The test voices in memory, and what reads them."""

    def __init__(self) -> None:
        root = Path(bundled("bundled:demo"))
        self.waves = {
            speaker: [torch.from_numpy(read_audio(root / speaker / f"{speaker}_{n:03d}.ogg")) for n in range(1, 13)]
            for speaker in SPEAKERS
        }
        self.features, self.phonetic = open_extractor(FeaturesConfig()), PhoneticEncoder()
        self.verifier = load_speaker_encoder("ge2e")
        self.speakers = {speaker: self.embed(torch.cat(waves[10:])) for speaker, waves in self.waves.items()}

    def embed(self, wave: Tensor) -> np.ndarray:
        """The embedding ``(E,)`` of a wave ``(N,)``."""
        return self.verifier.embed([wave])[0]

    def convert(self, systems: dict[str, System], source: str, target: str, number: int) -> dict[str, float]:
        """The cells of one trial: sentence ``number`` of ``source`` in the voice of ``target``."""
        wave = self.waves[source][number]
        features = self.features.extract(wave)
        spoken = Utterance(f"{source}{number}", wave, features, self.phonetic.from_features(features))
        references = [Utterance(f"{target}{n}", self.waves[target][n]) for n in range(6, 9)]
        row = {"source to target": float(self.embed(wave) @ self.speakers[target])}
        for name, system in systems.items():
            started = time.process_time()
            with torch.inference_mode():
                made = system.convert(spoken, references, {"trial_id": f"{source}{number}-{target}"}).wave
            spent = time.process_time() - started
            embedding = self.embed(made)
            row[f"{name} to target"] = float(embedding @ self.speakers[target])
            row[f"{name} to source"] = float(embedding @ self.speakers[source])
            row[f"{name} CPU s/s"] = spent / (len(made) / SAMPLE_RATE)
        return row


def load_systems(steps: int) -> dict[str, System]:
    """Takin-VC with and without speaker embedding, with ``steps`` of the sampler."""
    experiment = TakinExperiment(size="nano", sampling_steps=steps)
    vocoder = Path(bundled("bundled:nano-world-mel"))
    return {
        name: load_system(experiment, {"flow": Path(bundled(model)), "vocoder": vocoder})
        for name, model in MODELS.items()
    }


def trials(sentences: int) -> Iterator[tuple[str, str, int]]:
    """(source, target, sentence) of all conversions."""
    for number in range(sentences):
        for place, source in enumerate(SPEAKERS):
            for target in (SPEAKERS[(place + number + step) % len(SPEAKERS)] for step in (1, 2)):
                if target != source:
                    yield source, target, number


def main() -> None:
    """Print the trials, the means, and the gains of the model with speaker embedding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=2, help="of each speaker, each to two others")
    parser.add_argument("--steps", type=int, default=10, help="of the sampler")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench, systems = Bench(), load_systems(options.steps)
    rows: list[dict[str, float]] = []
    for source, target, number in trials(options.sentences):
        rows.append(bench.convert(systems, source, target, number))
        cells = " ".join(f"{name} {value:.3f}" for name, value in rows[-1].items())
        print(f"{source}{number} -> {target}", cells, flush=True)
    print(f"means of {len(rows)} trials, {options.steps} steps:")
    for name in rows[0]:
        print(f"  {name:32s} {np.mean([row[name] for row in rows]):.3f}")
    for other in (f"{WITHOUT} to target", "source to target"):
        gains = np.array([row[f"{WITH} to target"] - row[other] for row in rows])
        error = gains.std(ddof=1) / len(gains) ** 0.5
        print(f"  {WITH} less {other}: {gains.mean():+.3f}, standard error {error:.3f}")


if __name__ == "__main__":
    main()
