"""How much of the speaker does the self-destructive amendment take out of Stepback's content, over its weight and margin?

    python workflow/studies/stepback_leakage.py                                    the demo's voices, minutes on two cores
    python workflow/studies/stepback_leakage.py --weights 0 5 10 --margins 0.7 1.0 --seeds 3
    python workflow/studies/stepback_leakage.py --run results/nano-systems         the voices of a run (features: mel)

All trainings start from the bundled preparation (or --preparation) and one classifier, and have the same batches. Each dual flow runs
for at least --steps, and then until the reconstruction loss of unseen speakers is at most --slack times what the preparation had: so
all are compared at equal reconstruction; "-" marks one that did not come back within --most-steps. Speaker embeddings are of another
utterance of the speaker (of the same, where there is one only).

Prints one row per training:

    L_rec     reconstruction loss of unseen speakers
    distance  mean |x_t - x| on their speech, t another unseen speaker
    frame     accuracy of a linear probe that reads the speaker off a frame of z, percent; folds over a speaker's utterances, so that
              the words differ
    chance    accuracy of always naming the commonest speaker, percent

"preparation" is z before stage 3, "mels" the spectrogram itself. The last lines are means over seeds, compared with weight 0.

Letters: ``B`` batch, ``T`` frames, ``M`` mel bands, ``N`` samples, ``E`` dimension of a speaker embedding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_steps import CROP, Crops, open_updater, save_model

from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import SAMPLE_RATE, int16_to_float, read_audio
from bowerbird.config.paths import bundled
from bowerbird.config.systems.stepback import ClassifierStage, DualFlowStage
from bowerbird.encoders.speaker import embed_speakers, load_speaker_network
from bowerbird.nn.linear_probe import LabeledRows, ProbeScore, linear_probe
from bowerbird.nn.mel import LogMel
from bowerbird.systems.base import Batch, StageInputs, TrainingStage
from bowerbird.systems.stepback.network import Autoencoder, load_autoencoder
from bowerbird.systems.stepback.training import ClassifierTraining, DualFlowTraining

LONGEST = 500  # frames of an utterance that are used
GROUP = 20  # speakers that a probe tells apart
EMBEDDED_S = 6  # seconds of speech that an embedding is computed from
PER_SPEAKER = 8  # utterances of a run that are used
UNSEEN = 24  # speakers of a run for L_rec
PROBE_STEPS = 200
BANDS = 80


class Speech:
    """Log-mel spectra of utterances by speaker, with a speaker embedding for each."""

    def __init__(self) -> None:
        self.spectra: dict[str, Tensor] = {}  # utterance -> (T, M)
        self.embeddings: dict[str, Tensor] = {}  # utterance -> (E,)
        self.training: dict[str, list[str]] = defaultdict(list)  # speaker -> utterances
        self.unseen: dict[str, list[str]] = defaultdict(list)

    @classmethod
    def of_demo(cls) -> Speech:
        """The demo's training and validation speakers."""
        root, mel, speech, waves = Path(bundled("bundled:demo")), LogMel(), cls(), {}
        table = pd.read_csv(root / "utterances.tsv", sep="\t").sort_values("utt_id")
        for row in table[table["split"] != "test"].itertuples():
            waves[row.utt_id] = torch.from_numpy(read_audio(root / row.path))
            speech.spectra[row.utt_id] = mel(waves[row.utt_id][None])[0][:LONGEST]
            (speech.training if row.split == "train" else speech.unseen)[row.speaker].append(row.utt_id)
        speech.embed(waves.__getitem__)
        return speech

    @classmethod
    def of_run(cls, run: Path, speakers: int) -> Speech:
        """At most ``speakers`` training speakers of a run, and some of its validation speakers."""
        speech = cls()
        mels = Shards(sorted((run / "features" / "mel").glob("shard-????.npy")))
        audio = Shards(sorted((run / "corpus" / "audio").glob("shard-????.npy")), "num_samples")
        table = read_table(run / "corpus" / "manifest.parquet", ["utt_id", "speaker", "split"]).sort_values("utt_id")
        table = table[table["utt_id"].map(lambda name: name in mels)].groupby("speaker").head(PER_SPEAKER)
        for split, chosen, count in (("train", speech.training, speakers), ("valid", speech.unseen, UNSEEN)):
            rows = table[table["split"] == split]
            for row in rows[rows["speaker"].isin(rows["speaker"].unique()[:count])].itertuples():
                speech.spectra[row.utt_id] = torch.from_numpy(np.array(mels[row.utt_id][:LONGEST], np.float32))
                chosen[row.speaker].append(row.utt_id)
        speech.embed(lambda name: torch.from_numpy(int16_to_float(np.array(audio[name]))))
        return speech

    @torch.no_grad()
    def embed(self, wave: Callable[[str], Tensor]) -> None:
        """Embed each utterance's speaker from the speaker's next one; ``wave`` gives ``(N,)`` by utterance."""
        network = load_speaker_network("ge2e")
        for names in [*self.training.values(), *self.unseen.values()]:
            for name, other in zip(names, [*names[1:], names[0]], strict=True):
                self.embeddings[name] = embed_speakers(network, [wave(other)[: SAMPLE_RATE * EMBEDDED_S]])[0]


class KnownEmbeddings(nn.Module):
    """The speaker embeddings of a batch, looked up instead of computed anew in each step."""

    from_table = False

    def __init__(self, embeddings: dict[str, Tensor]) -> None:
        super().__init__()
        self.known = embeddings

    def forward(self, batch: Batch, autoencoder: Autoencoder) -> Tensor:
        """The embeddings ``(B, E)`` of the items."""
        return torch.stack([self.known[name] for name in batch.utt_ids])


class Bench:
    """One seed: its batches, its classifier, and its dual flows."""

    def __init__(self, options: argparse.Namespace, speech: Speech, seed: int) -> None:
        self.options, self.speech, self.seed = options, speech, seed
        self.folder = Path(tempfile.mkdtemp())
        labels = {name: label for label, names in enumerate(speech.training.values()) for name in names}
        labels = {name: label for name, label in labels.items() if len(speech.spectra[name]) >= CROP}
        self.crops = Crops(speech.spectra, labels, options.batch_size, seed)
        self.common = {"batch_size": options.batch_size, "seed": seed, "valid_every": 10**9}

    def run(self, stage: TrainingStage, first: int, count: int) -> None:
        """Steps ``first + 1`` to ``first + count`` of a stage."""
        updater = open_updater(stage)
        for step in range(first + 1, first + count + 1):
            updater.step(step, self.crops.batch(step))

    def train_classifier(self) -> None:
        """Stage 2; its model is written to the bench's folder."""
        channels = json.loads((self.options.preparation / "config.json").read_text())["channels"]
        options = ClassifierStage(channels=channels, dropout=0.1, learning_rate=1e-3, **self.common)
        torch.manual_seed(self.seed)
        stage = ClassifierTraining(options, StageInputs(BANDS, models={"preparation": self.options.preparation}))
        stage.embeddings = KnownEmbeddings(self.speech.embeddings)
        self.run(stage, 0, self.options.classifier_steps)
        save_model(stage, self.folder)

    def train_dual_flow(self, weight: float, margin: float, target: float) -> tuple[Autoencoder, int, bool]:
        """Stage 3: its encoder and decoder, its steps, and whether its reconstruction came back to ``target``."""
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
        stage = DualFlowTraining(options, StageInputs(BANDS, models=models))
        stage.embeddings = KnownEmbeddings(self.speech.embeddings)
        self.run(stage, 0, self.options.steps)
        steps = self.options.steps
        while self.loss(stage.autoencoder) > target and steps < self.options.most_steps:
            self.run(stage, steps, 20)
            steps += 20
        return stage.autoencoder.eval(), steps, self.loss(stage.autoencoder) <= target

    def loss(self, autoencoder: Autoencoder) -> float:
        """Mean L_rec of the unseen speakers."""
        return float(np.mean([float(F.l1_loss(own, x)) for x, own, _ in self.convert_unseen(autoencoder)]))

    def distance(self, autoencoder: Autoencoder) -> float:
        """Mean |x_t - x| of the unseen speakers, t the next one."""
        return float(np.mean([float((other - x).abs().mean()) for x, _, other in self.convert_unseen(autoencoder)]))

    @torch.no_grad()
    def convert_unseen(self, autoencoder: Autoencoder) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(x, x_s, x_t) of each utterance of the unseen speakers, each ``(T, M)``."""
        autoencoder.eval()
        firsts = [names[0] for names in self.speech.unseen.values()]
        found = []
        for place, names in enumerate(self.speech.unseen.values()):
            target = self.speech.embeddings[firsts[(place + 1) % len(firsts)]]
            for name in names:
                x = self.speech.spectra[name]
                speakers = torch.stack([self.speech.embeddings[name], target])
                both = autoencoder.decoder(autoencoder.encoder(x[None]).repeat(2, 1, 1), speakers, len(x))
                found.append((x, *both))
        return found

    @torch.no_grad()
    def leakage(self, content: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Accuracy of the probe on frames of ``content`` of ``(T, M)``, over folds and groups of speakers; and chance."""
        chosen = list(self.speech.training.values())[: self.options.probed]
        parts = [split_up([content(self.speech.spectra[name]) for name in names]) for names in chosen]
        folds = min(map(len, parts))
        scores = [
            probe_fold(parts[start : start + GROUP], fold, folds)
            for start in range(0, max(1, len(parts) - GROUP // 2), GROUP)
            for fold in range(min(folds, self.options.folds))
        ]
        return float(np.mean([s.accuracy for s in scores])), float(np.mean([s.chance_level for s in scores]))


def split_up(utterances: Sequence[Tensor]) -> list[Tensor]:
    """A speaker's utterances; thirds of it where there is one only."""
    if len(utterances) > 1:
        return list(utterances)
    length = len(utterances[0]) // 3
    return [utterances[0][n * length : (n + 1) * length] for n in range(3)]


def probe_fold(group: Sequence[Sequence[Tensor]], fold: int, folds: int) -> ProbeScore:
    """A probe for the speaker, fitted on the utterances outside ``fold`` and tested on those inside; ``group``: by speaker."""
    rows = [
        LabeledRows.alike(utterance, {"speaker": label}, number % folds != fold)
        for label, utterances in enumerate(group)
        for number, utterance in enumerate(utterances)
    ]
    return linear_probe(LabeledRows.join(rows), "speaker", PROBE_STEPS)


class Table:
    """The rows that are printed, and the mean differences to weight 0."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[float, float]]] = defaultdict(list)  # row -> (frame, L_rec) of each seed
        print(f"{'seed':>4} {'content of':<24}{'steps':>6}{'L_rec':>9}{'distance':>10}{'frame':>8}{'chance':>8}")

    def add(self, bench: Bench, name: str, autoencoder: Autoencoder | None, steps: str = "") -> None:
        """Measure and print one row; without ``autoencoder``, of the spectrograms themselves."""
        loss = distance = float("nan")
        if autoencoder is None:
            accuracy, chance = bench.leakage(lambda x: x)
        else:
            accuracy, chance = bench.leakage(lambda x: autoencoder.encoder(x[None])[0])
            loss, distance = bench.loss(autoencoder), bench.distance(autoencoder)
        self.found[name].append((100 * accuracy, loss))
        cells = f"{loss:>9.4f}{distance:>10.4f}{100 * accuracy:>8.1f}{100 * chance:>8.1f}"
        print(f"{bench.seed:>4} {name:<24}{steps:>6}{cells}", flush=True)

    def print_differences(self) -> None:
        """The mean over seeds of every weight, less weight 0."""
        if "weight 0" not in self.found:
            return
        without = np.array(self.found["weight 0"])
        for name in [name for name in self.found if name.startswith("weight") and name != "weight 0"]:
            change = np.array(self.found[name]) - without
            error = change[:, 0].std(ddof=1) / len(change) ** 0.5 if len(change) > 1 else float("nan")
            print(
                f"{name} less weight 0: speaker from a frame {change[:, 0].mean():+.1f} points (standard error {error:.1f}, "
                f"{(change[:, 0] < 0).sum()} of {len(change)} seeds lower), L_rec {change[:, 1].mean():+.4f}"
            )


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a results folder with features mel; default: the demo's voices")
    parser.add_argument("--speakers", type=int, default=1000, help="of --run, at most")
    parser.add_argument("--probed", type=int, default=120, help="speakers for the probe, in groups of 20")
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
    return parser.parse_args()


def main() -> None:
    """Print a row per training, then the differences to weight 0."""
    options = parse_options()
    torch.set_num_threads(1)
    speech = Speech.of_run(options.run, options.speakers) if options.run else Speech.of_demo()
    print(f"{len(speech.training)} speakers to train on, {len(speech.unseen)} unseen ones to measure L_rec on")
    table = Table()
    prepared = load_autoencoder(options.preparation)[0]
    for seed in range(options.seeds):
        bench = Bench(options, speech, seed)
        if not seed:
            table.add(bench, "mels", None)
            table.add(bench, "preparation", prepared)
        bench.train_classifier()
        target = bench.loss(prepared) * options.slack
        for weight in options.weights:
            for margin in options.margins if weight else options.margins[:1]:
                flow, steps, is_back = bench.train_dual_flow(weight, margin, target)
                name = f"weight {weight:g}, margin {margin:g}" if weight else "weight 0"
                table.add(bench, name, flow, f"{steps}{'' if is_back else ' -'}")
    table.print_differences()


if __name__ == "__main__":
    main()
