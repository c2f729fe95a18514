"""What the self-destructive amendment takes out of Stepback's content: a speaker probe on z, over its weight and margin.

    python benchmarks/stepback_leakage.py                                       the demo's voices, minutes on two cores
    python benchmarks/stepback_leakage.py --weights 0 5 10 --margins 0.7 1.0 --seeds 3
    python benchmarks/stepback_leakage.py --run results/nano-systems            the voices of a run (features: mel)

All start from the bundled preparation (or --preparation) and one classifier, and see the same batches. Each dual flow runs
at least --steps, and then until the reconstruction loss of voices it never heard is at most --slack times what the preparation had:
so all are compared at equal reconstruction; "-" marks one that did not come back within --most-steps. Voices are embeddings
of other speech of the speaker (of the same, where there is one utterance only).

    L_rec     reconstruction loss of unheard voices           distance  mean |x_t - x| on them
    frame     speaker read from a frame of z by a linear probe, percent; folds over a speaker's utterances, so words differ
    chance    what the commonest speaker would get

"preparation" is z before stage 3, "mels" the spectrogram itself. The last lines are means over seeds, beside weight 0.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from stepback_cost import save
from torch import Tensor, nn

from bowerbird.audio import read_audio
from bowerbird.config.paths import bundled
from bowerbird.config.sections.training import TrainingConfig
from bowerbird.config.systems.stepback import ClassifierStage, DualFlowStage
from bowerbird.encoders.speaker import embed_speakers, load_speaker_network
from bowerbird.inspection.probes import probe
from bowerbird.nn.mel import LogMel
from bowerbird.stages.training.distributed import Processes
from bowerbird.stages.training.loop import Trainer
from bowerbird.systems.base import Batch, StageInputs
from bowerbird.systems.stepback.network import Autoencoder, load_autoencoder
from bowerbird.systems.stepback.training import ClassifierTraining, DualFlowTraining

CROP = 80  # frames, 1.6 s
LONGEST = 500  # frames of an utterance that are looked at
GROUP = 20  # speakers that a probe tells apart
HEARD_S = 6  # seconds that a voice is embedded from


class Speech:
    """Log-mels of utterances by speaker, with the embedding of a voice beside each."""

    def __init__(self) -> None:
        self.spectra: dict[str, Tensor] = {}  # (frames, 80)
        self.voices: dict[str, Tensor] = {}
        self.training: dict[str, list[str]] = defaultdict(list)  # speaker -> utterances
        self.unheard: dict[str, list[str]] = defaultdict(list)

    @classmethod
    def demo(cls) -> Speech:
        import pandas as pd

        root, mel, speech, waves = Path(bundled("bundled:demo")), LogMel(), cls(), {}
        table = pd.read_csv(root / "utterances.tsv", sep="\t").sort_values("utt_id")
        for row in table[table["split"] != "test"].itertuples():
            waves[row.utt_id] = torch.from_numpy(read_audio(root / row.path))
            speech.spectra[row.utt_id] = mel(waves[row.utt_id][None])[0][:LONGEST]
            (speech.training if row.split == "train" else speech.unheard)[row.speaker].append(row.utt_id)
        return speech.embedded(waves.__getitem__)

    @classmethod
    def of_run(cls, run: Path, speakers: int) -> Speech:
        from bowerbird.artifacts.shards import Shards
        from bowerbird.artifacts.tables import read_table

        speech = cls()
        mels = Shards(sorted((run / "features" / "mel").glob("shard-????.npy")))
        audio = Shards(sorted((run / "corpus" / "audio").glob("shard-????.npy")), "num_samples")
        table = read_table(run / "corpus" / "manifest.parquet", ["utt_id", "speaker", "split"]).sort_values("utt_id")
        table = table[table["utt_id"].map(lambda name: name in mels)].groupby("speaker").head(8)
        for split, place, count in (("train", speech.training, speakers), ("valid", speech.unheard, 24)):
            rows = table[table["split"] == split]
            for row in rows[rows["speaker"].isin(rows["speaker"].unique()[:count])].itertuples():
                speech.spectra[row.utt_id] = torch.from_numpy(np.array(mels[row.utt_id][:LONGEST], np.float32))
                place[row.speaker].append(row.utt_id)
        return speech.embedded(lambda name: torch.from_numpy(np.array(audio[name], np.float32) / 32768))

    def embedded(self, wave: Callable[[str], Tensor]) -> Speech:
        """With the voice of each utterance: that of the speaker's next one."""
        judge = load_speaker_network("ge2e")
        with torch.no_grad():
            for names in [*self.training.values(), *self.unheard.values()]:
                for name, other in zip(names, [*names[1:], names[0]], strict=True):
                    self.voices[name] = embed_speakers(judge, [wave(other)[: 16000 * HEARD_S]])[0]
        return self


class KnownVoices(nn.Module):
    """The voices of a batch, looked up instead of embedded anew in each step."""

    reference = True

    def __init__(self, voices: dict[str, Tensor]) -> None:
        super().__init__()
        self.known = voices

    def forward(self, batch: Batch, autoencoder: Autoencoder) -> Tensor:
        return torch.stack([self.known[name] for name in batch.utt_ids])


class Bench:
    """One seed: its batches, its classifier, and its dual flows."""

    def __init__(self, options: argparse.Namespace, speech: Speech, seed: int) -> None:
        self.options, self.speech, self.seed = options, speech, seed
        self.folder = Path(tempfile.mkdtemp())
        speakers = {name: label for label, names in enumerate(speech.training.values()) for name in names}
        self.labels = {name: label for name, label in speakers.items() if len(speech.spectra[name]) >= CROP}
        self.names = list(self.labels)
        self.common = {"batch_size": options.batch_size, "seed": seed, "valid_every": 10**9}

    def batch(self, step: int) -> Batch:
        """Random crops; the same ones at the same step of every training."""
        generator = torch.Generator().manual_seed(1000003 * self.seed + step)
        chosen = [
            self.names[n] for n in torch.randint(len(self.names), (self.options.batch_size,), generator=generator)
        ]
        crops = []
        for name in chosen:
            x = self.speech.spectra[name]
            start = int(torch.randint(len(x) - CROP + 1, (1,), generator=generator))
            crops.append(x[start : start + CROP])
        return Batch(tuple(chosen), torch.stack(crops), speaker=torch.tensor([self.labels[n] for n in chosen]))

    def run(self, stage: ClassifierTraining | DualFlowTraining, first: int, count: int) -> None:
        """Steps ``first + 1`` to ``first + count`` of a stage."""
        processes = Processes(0, 1, torch.device("cpu"))
        trainer = Trainer(stage, stage.options, TrainingConfig(), None, [], processes, None, None)
        for step in range(first + 1, first + count + 1):
            trainer.step(step, self.batch(step))

    def classifier(self) -> None:
        """Stage 2."""
        channels = json.loads((self.options.preparation / "config.json").read_text())["channels"]
        options = ClassifierStage(channels=channels, dropout=0.1, learning_rate=1e-3, **self.common)
        torch.manual_seed(self.seed)
        stage = ClassifierTraining.build(options, StageInputs(80, models={"preparation": self.options.preparation}))
        stage.voices = KnownVoices(self.speech.voices)
        self.run(stage, 0, self.options.classifier_steps)
        save(stage, self.folder)

    def dual_flow(self, weight: float, margin: float, target: float) -> tuple[Autoencoder, int, bool]:
        """Stage 3, the steps it took, and whether its reconstruction came back to ``target``."""
        ramp = self.options.steps // 4
        options = DualFlowStage(
            amendment_weight=weight,
            margin=margin,
            decoder_rate=self.options.decoder_rate,
            robustness_every=0,
            conversion_ramp=ramp,
            amendment_ramp=ramp,
            learning_rate=self.options.learning_rate,
            lr_decay=0.8,
            lr_decay_steps=max(1, self.options.steps),
            **self.common,
        )
        models = {"preparation": self.options.preparation, "classifier": self.folder}
        torch.manual_seed(self.seed)
        stage = DualFlowTraining.build(options, StageInputs(80, models=models))
        stage.voices = KnownVoices(self.speech.voices)
        self.run(stage, 0, self.options.steps)
        steps = self.options.steps
        while self.loss(stage.autoencoder) > target and steps < self.options.most_steps:
            self.run(stage, steps, 20)
            steps += 20
        return stage.autoencoder.eval(), steps, self.loss(stage.autoencoder) <= target

    def loss(self, autoencoder: Autoencoder) -> float:
        """Mean L_rec of the unheard voices."""
        return float(np.mean([float(F.l1_loss(own, x)) for x, own, _ in self._heard(autoencoder)]))

    def distance(self, autoencoder: Autoencoder) -> float:
        """Mean |x_t - x| of the unheard voices, t the next speaker."""
        return float(np.mean([float((other - x).abs().mean()) for x, _, other in self._heard(autoencoder)]))

    @torch.no_grad()
    def _heard(self, autoencoder: Autoencoder) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(x, x_s, x_t) of each unheard utterance."""
        autoencoder.eval()
        firsts = [names[0] for names in self.speech.unheard.values()]
        found = []
        for place, names in enumerate(self.speech.unheard.values()):
            target = self.speech.voices[firsts[(place + 1) % len(firsts)]]
            for name in names:
                x = self.speech.spectra[name]
                voices = torch.stack([self.speech.voices[name], target])
                both = autoencoder.decoder(autoencoder.encoder(x[None]).repeat(2, 1, 1), voices, len(x))
                found.append((x, *both))
        return found

    @torch.no_grad()
    def leakage(self, content: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Accuracy of the probe on frames of ``content``, over folds and groups of speakers; and chance."""
        chosen = list(self.speech.training.values())[: self.options.probed]
        speakers = [[content(self.speech.spectra[n]) for n in names] for names in chosen]
        parts = [split_up(utterances) for utterances in speakers]
        folds = min(map(len, parts))
        found = []
        for start in range(0, max(1, len(parts) - GROUP // 2), GROUP):
            group = parts[start : start + GROUP]
            for fold in range(min(folds, self.options.folds)):
                fitted = [(p, k) for k, own in enumerate(group) for i, p in enumerate(own) if i % folds != fold]
                tested = [(p, k) for k, own in enumerate(group) for i, p in enumerate(own) if i % folds == fold]
                found.append(probe(fitted, tested, lambda z: z))
        return float(np.mean([a for a, _ in found])), float(np.mean([c for _, c in found]))


def split_up(utterances: Sequence[Tensor]) -> list[Tensor]:
    """A speaker's utterances; thirds of it where there is one only."""
    if len(utterances) > 1:
        return list(utterances)
    length = len(utterances[0]) // 3
    return [utterances[0][n * length : (n + 1) * length] for n in range(3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a results folder with features mel; default: the demo's voices")
    parser.add_argument("--speakers", type=int, default=1000, help="of --run, at most")
    parser.add_argument("--probed", type=int, default=120, help="speakers that the probe sees, in groups of 20")
    parser.add_argument("--preparation", type=Path, default=Path(bundled("bundled:nano-stepback-preparation")))
    parser.add_argument("--classifier-steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=100, help="of the dual flow, at least")
    parser.add_argument("--most-steps", type=int, default=300, help="after which to give up")
    parser.add_argument("--slack", type=float, default=1.02, help="loss to come back to, relative to preparation's")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 5.0], help="of the amendment")
    parser.add_argument("--margins", type=float, nargs="+", default=[0.7], help="of the amendment, nepers")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--decoder-rate", type=float, default=0.5)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    speech = Speech.of_run(options.run, options.speakers) if options.run else Speech.demo()
    print(f"{len(speech.training)} speakers to train on, {len(speech.unheard)} unheard ones to measure L_rec on")
    print(f"{'seed':>4} {'content of':<24}{'steps':>6}{'L_rec':>9}{'distance':>10}{'frame':>8}{'chance':>8}")
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def report(bench: Bench, name: str, steps: str, autoencoder: Autoencoder | None) -> None:
        frame, chance = bench.leakage(
            (lambda x: x) if autoencoder is None else lambda x: autoencoder.encoder(x[None])[0]
        )
        loss, far = (bench.loss(autoencoder), bench.distance(autoencoder)) if autoencoder else (np.nan, np.nan)
        found[name].append((100 * frame, loss))
        print(
            f"{bench.seed:>4} {name:<24}{steps:>6}{loss:>9.4f}{far:>10.4f}{100 * frame:>8.1f}{100 * chance:>8.1f}",
            flush=True,
        )

    for seed in range(options.seeds):
        bench = Bench(options, speech, seed)
        prepared = load_autoencoder(options.preparation)[0]
        if not seed:
            report(bench, "mels", "", None)
            report(bench, "preparation", "", prepared)
        bench.classifier()
        for weight in options.weights:
            for margin in options.margins if weight else options.margins[:1]:
                flow, steps, back = bench.dual_flow(weight, margin, bench.loss(prepared) * options.slack)
                name = f"weight {weight:g}, margin {margin:g}" if weight else "weight 0"
                report(bench, name, f"{steps}{'' if back else ' -'}", flow)
    if "weight 0" not in found:
        return
    without = np.array(found.pop("weight 0"))
    for name in [name for name in found if name.startswith("weight")]:
        change = np.array(found[name]) - without
        spread = change[:, 0].std(ddof=1) / len(change) ** 0.5 if len(change) > 1 else float("nan")
        print(
            f"{name} less weight 0: speaker from a frame {change[:, 0].mean():+.1f} points (standard error {spread:.1f}, "
            f"{(change[:, 0] < 0).sum()} of {len(change)} seeds lower), L_rec {change[:, 1].mean():+.4f}"
        )


if __name__ == "__main__":
    main()
