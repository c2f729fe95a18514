"""Which part of the reference does nano Takin-VC, as bundled, depend on?

    python workflow/studies/takin_condition.py

Of the demo's four test voices, 3 s of each are converted to a second one; then again, with the same noise and one part of the
condition taken from a third one. The further the mel moves, the more the conversion depends on that part.

Prints how far speakers are apart in the projection that each mel frame and the speaker embedding go through together, then one row
per part: the mean absolute change of the log-mel, and that of each conversion. "noise alone" is other noise, nothing else.

Letters: ``T`` frames, ``D`` dimension of features, ``P`` phones, ``R`` frames of a reference, ``M`` mel bands, ``E`` dimension of a
speaker embedding.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.audio import SAMPLE_RATE, read_audio
from bowerbird.config.paths import bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import PhoneticEncoder, open_extractor
from bowerbird.encoders.speaker import load_speaker_encoder
from bowerbird.nn.mel import LogMel
from bowerbird.systems.takin.network import Condition, Reference, Takin, normalize, same_length

TRIALS = (("awb", "slt", "rms"), ("slt", "awb", "kal16"), ("kal16", "rms", "awb"), ("rms", "kal16", "slt"))
SOURCE_S, REFERENCE_S = 3, 6
GUIDANCE = 0.7


def demo_wave(speaker: str, number: int) -> Tensor:
    """A test utterance of the demo, ``(N,)``."""
    return torch.from_numpy(read_audio(Path(bundled("bundled:demo")) / speaker / f"{speaker}_{number:03d}.ogg"))


@dataclass(frozen=True)
class Voices:
    """What the condition is made of, by speaker."""

    mels: dict[str, Tensor]  # (1, R, M), normalized
    embeddings: dict[str, Tensor]  # (1, E)

    @classmethod
    def read(cls) -> Voices:
        """Two utterances of each test speaker."""
        encoder, mel = load_speaker_encoder("ge2e"), LogMel()
        waves = {speaker: torch.cat([demo_wave(speaker, number) for number in (6, 7)]) for speaker, _, _ in TRIALS}
        return cls(
            {s: normalize(mel(wave[None, : REFERENCE_S * SAMPLE_RATE])) for s, wave in waves.items()},
            {s: torch.from_numpy(encoder.embed([wave])) for s, wave in waves.items()},
        )

    def reference(self, mels: str, embedding: str) -> Reference:
        """A reference with the mels of one speaker and the embedding of another."""
        frames = torch.tensor([self.mels[mels].shape[1]])
        return Reference(self.mels[mels], frames, self.embeddings[embedding])


def load_takin() -> Takin:
    """The bundled model."""
    folder = Path(bundled("bundled:nano-takin"))
    model = Takin(read_model_config(folder))
    load_weights(model, folder)
    return model.eval()


def measure_trial(model: Takin, voices: Voices, content: Tensor, phones: Tensor, trial: tuple[str, str, str]) -> dict:
    """How far the mel of a conversion moves with each part of the condition; ``content`` ``(T, D)``, ``phones`` ``(T, P)``."""
    _, target, third = trial

    def condition(mels: str, embedding: str) -> Condition:
        return model.condition(content[None], phones[None], voices.reference(mels, embedding), len(content))[0]

    own, other = condition(target, target), condition(third, target)
    noise, other_noise = (
        torch.randn(1, len(content), LogMel().bank.shape[1], generator=torch.Generator().manual_seed(seed))
        for seed in (0, 1)
    )
    parts = {
        "speaker embedding": condition(target, third),
        "mels of the context": Condition(other.context, own.memory),
        "mels of the memory": Condition(own.context, other.memory),
        "all three": condition(third, third),
    }
    before = model.sample(own, noise, guidance=GUIDANCE)
    made = {name: model.sample(changed, noise, guidance=GUIDANCE) for name, changed in parts.items()}
    made["noise alone"] = model.sample(own, other_noise, guidance=GUIDANCE)
    return {name: float((mel - before).abs().mean()) for name, mel in made.items()}


def print_projection(model: Takin, voices: Voices) -> None:
    """Print the root mean square difference between two speakers, by their embeddings and by their mean mels."""
    weight, bands = model.context.reference.weight, model.field.outward.out_channels
    mels, embeddings = voices.mels, voices.embeddings
    pairs = list(itertools.combinations(mels, 2))
    by_embedding = torch.stack([(embeddings[a] - embeddings[b])[0] @ weight[:, bands:].T for a, b in pairs])
    by_mel = torch.stack([(mels[a][0].mean(0) - mels[b][0].mean(0)) @ weight[:, :bands].T for a, b in pairs])
    distances = [float(values.square().mean().sqrt()) for values in (by_embedding, by_mel)]
    print(f"root mean square between speakers: embedding {distances[0]:.3f}, mean mel {distances[1]:.3f}")


@torch.inference_mode()
def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversions", type=int, default=4, help="of those four")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, voices = load_takin(), Voices.read()
    features, phonetic = open_extractor(FeaturesConfig()), PhoneticEncoder()
    print_projection(model, voices)
    moved: dict[str, list[float]] = defaultdict(list)
    for trial in TRIALS[: options.conversions]:
        content = features.extract(demo_wave(trial[0], 1)[: SOURCE_S * SAMPLE_RATE])
        phones = same_length(phonetic.from_features(content), len(content))
        for name, distance in measure_trial(model, voices, content, phones, trial).items():
            moved[name].append(distance)
    for name, values in moved.items():
        print(f"{name:20s} {np.mean(values):.3f}   " + " ".join(f"{value:.3f}" for value in values))


if __name__ == "__main__":
    main()
