"""What of the reference nano Takin-VC listens to, as bundled: how far the mel moves when one part is another speaker's.

    python benchmarks/takin_condition.py

Of the demo's four unseen voices, 3 s of each are converted to a second one; then with the same noise and one part of the
condition of a third one. A row a part: mean absolute change of the log-mel, and of each conversion.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bowerbird.artifacts.models import load_weights, read_model_config
from bowerbird.audio import read_audio
from bowerbird.config.paths import bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.encoders.extractors import open_extractor
from bowerbird.encoders.extractors import PhoneticEncoder
from bowerbird.encoders.speaker import load_speaker_encoder
from bowerbird.nn.mel import LogMel
from bowerbird.systems.takin.network import Condition, Takin, normalize, same_length

TRIALS = (("awb", "slt", "rms"), ("slt", "awb", "kal16"), ("kal16", "rms", "awb"), ("rms", "kal16", "slt"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversions", type=int, default=4, help="of those four")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder, root = Path(bundled("bundled:nano-takin")), Path(bundled("bundled:demo"))
    model = Takin(read_model_config(folder))
    load_weights(model, folder)
    model.eval()
    features, phones, judge = open_extractor(FeaturesConfig()), PhoneticEncoder(), load_speaker_encoder("resemblyzer")
    heard = {
        s: torch.cat([torch.from_numpy(read_audio(root / s / f"{s}_{n:03d}.ogg")) for n in (6, 7)])
        for s, _, _ in TRIALS
    }
    prints = {s: torch.from_numpy(judge.embed([wave])) for s, wave in heard.items()}
    mels = {s: normalize(LogMel()(wave[None, :96_000])) for s, wave in heard.items()}
    with torch.inference_mode():
        shared_projection(model, mels, prints)
        moved: dict[str, list[float]] = {}
        for source, target, third in TRIALS[: options.conversions]:
            wave = torch.from_numpy(read_audio(root / source / f"{source}_001.ogg"))[:48_000]
            content = features.extract(wave)
            said = same_length(phones.from_features(content), len(content))[None]

            def condition(mel: str, voice: str, content: Tensor = content, said: Tensor = said) -> Condition:
                frames = torch.tensor([mels[mel].shape[1]])
                return model.condition(content[None], said, mels[mel], frames, prints[voice])[0]

            own, other = condition(target, target), condition(third, target)
            noise, another = (
                torch.randn(1, len(content), 80, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
            )
            parts = {
                "voice print": condition(target, third),
                "mels of the context": Condition(other.context, own.memory),
                "mels of the memory": Condition(own.context, other.memory),
                "all three": condition(third, third),
            }
            made = model.sample(own, noise, guidance=0.7)
            for name, changed in parts.items():
                moved.setdefault(name, []).append(distance(model.sample(changed, noise, guidance=0.7), made))
            moved.setdefault("noise alone", []).append(distance(model.sample(own, another, guidance=0.7), made))
    for name, values in moved.items():
        print(f"{name:20s} {np.mean(values):.3f}   " + " ".join(f"{value:.3f}" for value in values))


def shared_projection(model: Takin, mels: dict[str, Tensor], prints: dict[str, Tensor]) -> None:
    """How far apart speakers are in the projection that each mel frame and the voice print go through together."""
    weight, bands = model.context.reference.weight, model.field.outward.out_channels
    pairs = list(itertools.combinations(mels, 2))
    by_print = torch.stack([(prints[a] - prints[b])[0] @ weight[:, bands:].T for a, b in pairs])
    by_mel = torch.stack([(mels[a][0].mean(0) - mels[b][0].mean(0)) @ weight[:, :bands].T for a, b in pairs])
    print(f"root mean square between speakers: print {rms(by_print):.3f}, mean mel {rms(by_mel):.3f}")


def rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def distance(made: Tensor, before: Tensor) -> float:
    return float((made - before).abs().mean())


if __name__ == "__main__":
    main()
