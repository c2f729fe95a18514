"""Does Stepback's training cost less than that of the recipe it comes from (Chou et al. 2018, stage 1)?

    python workflow/studies/stepback_cost.py           the demo corpus, minutes on two cores
    python workflow/studies/stepback_cost.py --channels 512 --latent 512 --conv-bank-size 8 --conv-bank-channels 128 --batch-size 32 --device cuda

Both recipes have the same encoder and decoder, prepared by the same number of reconstruction steps, and a classifier that is trained
alone for the same number of steps. Then each goes on in its own way, until the reconstruction loss of held-out utterances, from their
own speaker to their own speaker, is back at what preparation reached (times --slack), and for at least --joint-steps:

    2018       a classifier of the content z against encoder and decoder (`stepback_adversarial.py`); each step has its own batch
    stepback   the dual flow with its amendment and the steps of robustness; the classifier reads spectra and stays as it is

Prints, of each recipe and part: optimizer steps (of the loop: one batch each), FLOPs (as torch.utils.flop_counter counts one step of
each kind, times their number), seconds and the loss; "reached" says whether the loss was. Then the ratios, of the whole and of what
follows preparation.

Letters: ``T`` frames, ``M`` mel bands.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from stepback_adversarial import AdversarialTraining
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from training_steps import CROP, Crops, open_updater, save_model

from bowerbird.audio import read_audio
from bowerbird.config.paths import bundled
from bowerbird.config.systems.stepback import ClassifierStage, DualFlowStage, PreparationStage
from bowerbird.nn.mel import LogMel
from bowerbird.stages.training.updates import StageUpdater
from bowerbird.systems.base import StageInputs, TrainingStage
from bowerbird.systems.stepback.network import Autoencoder
from bowerbird.systems.stepback.training import ClassifierTraining, DualFlowTraining, PreparationTraining

RECIPES = ("2018", "stepback")
CHECK_EVERY = 12  # steps between two looks at the loss
BANDS = 80


@dataclass(frozen=True)
class Speech:
    """The demo's training split in memory."""

    speakers: tuple[str, ...]
    spectra: dict[str, Tensor]  # utterance -> (T, M) to train on
    labels: dict[str, int]  # utterance -> its speaker's number
    heldout: list[tuple[Tensor, int]]  # the last utterance of each speaker, (T, M)

    @classmethod
    def read(cls) -> Speech:
        """Log-mel spectra of the demo."""
        root, mel = Path(bundled("bundled:demo")), LogMel()
        table = pd.read_csv(root / "utterances.tsv", sep="\t")
        table = table[table["split"] == "train"].sort_values("utt_id")
        speech = cls(tuple(sorted(set(table["speaker"]))), {}, {}, [])
        for label, name in enumerate(speech.speakers):
            rows = table[table["speaker"] == name]
            spectra = [mel(torch.from_numpy(read_audio(root / path))[None])[0] for path in rows["path"]]
            speech.heldout.append((spectra[-1], label))
            for utt_id, x in zip(rows["utt_id"][:-1], spectra[:-1], strict=True):
                if len(x) >= CROP:
                    speech.spectra[utt_id], speech.labels[utt_id] = x, label
        return speech


class Costs:
    """Steps, FLOPs and seconds of parts of a training."""

    def __init__(self, crops: Crops, seed: int, device: torch.device) -> None:
        self.crops, self.seed, self.device = crops, seed, device
        self._flops: dict[tuple, int] = {}  # of a step of each kind

    def run(self, stage: TrainingStage, begun: int, count: int, first: int = 0) -> Counter[str]:
        """The costs of steps ``first + 1`` to ``first + count`` of a stage; batches are numbered on from ``begun``."""
        updater = open_updater(stage, str(self.device))
        kinds: Counter[tuple[str, ...]] = Counter()
        started = time.perf_counter()
        for step in range(first + 1, first + count + 1):
            updater.step(step, self.crops.batch(begun + step).to(self.device))
            kinds[stage.updates(step)] += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        flops = sum(number * self._count_flops(updater, kind, first + count) for kind, number in kinds.items())
        return Counter({"steps": count, "flops": flops, "seconds": seconds})

    def _count_flops(self, updater: StageUpdater, kind: tuple[str, ...], near: int) -> int:
        """FLOPs of one step whose updates are ``kind``; the weights are put back."""
        stage = updater.stage
        key = (type(stage).__name__, kind, isinstance(stage, AdversarialTraining) and stage.is_alone)
        if key not in self._flops:
            step = next(s for s in range(max(1, near), near + 50) if stage.updates(s) == kind)
            state = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in stage.modules.items()}
            moments = {n: copy.deepcopy(o.state_dict()) for n, o in stage.optimizers.items()}
            with FlopCounterMode(display=False) as counter:
                updater.step(step, self.crops.batch(step).to(self.device))
            self._flops[key] = counter.get_total_flops()
            for name, module in stage.modules.items():
                module.load_state_dict(state[name])
            for name, optimizer in stage.optimizers.items():
                optimizer.load_state_dict(moments[name])
            torch.manual_seed(self.seed)
        return self._flops[key]


class Bench:
    """One seed: the preparation that both recipes start from, and the two recipes."""

    def __init__(self, options: argparse.Namespace, speech: Speech, seed: int) -> None:
        self.options, self.speech, self.seed = options, speech, seed
        self.device = torch.device(options.device)
        self.folder = Path(tempfile.mkdtemp())
        self.costs = Costs(Crops(speech.spectra, speech.labels, options.batch_size, seed), seed, self.device)
        self.common = {
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "seed": seed,
            "valid_every": 10**9,
        }
        self.preparation, self.before, self.prepared_loss = self.prepare()

    def inputs(self, **models: Path) -> StageInputs:
        """What a stage is built from."""
        return StageInputs(BANDS, models=models, speakers=self.speech.speakers)

    def place(self, stage: TrainingStage) -> None:
        """Move a stage's modules to the device."""
        for module in stage.modules.values():
            module.to(self.device)

    def prepare(self) -> tuple[Path, Counter[str], float]:
        """Stage 1, which both recipes have: its model folder, costs and loss."""
        sizes = ("channels", "latent", "conv_bank_size", "conv_bank_channels")
        values = {key: getattr(self.options, key) for key in sizes}
        torch.manual_seed(self.seed)
        stage = PreparationTraining(
            PreparationStage(speakers="table", dropout=0.0, **values, **self.common), self.inputs()
        )
        self.place(stage)
        counts = self.costs.run(stage, 0, self.options.preparation_steps)
        loss = self.loss(stage.autoencoder)
        self.print_row("both", "preparation", counts, loss)
        return save_model(stage, self.folder / "preparation"), counts, loss

    def train(self, recipe: str) -> Counter[str]:
        """A recipe's own classifier and joint training, to preparation's loss; its costs, whole and after preparation."""
        begun = self.options.preparation_steps
        stage: TrainingStage = self.classifier() if recipe == "stepback" else self.adversarial()
        counts = self.costs.run(stage, begun, self.options.classifier_steps)
        self.print_row(recipe, "classifier", counts)
        if isinstance(stage, AdversarialTraining):
            stage.is_alone = False
            joint: AdversarialTraining | DualFlowTraining = stage
        else:
            save_model(stage, self.folder / "classifier")
            joint = self.dual_flow()
        begun, reached, together = begun + self.options.classifier_steps, False, Counter[str]()
        while together["steps"] < self.options.most_steps and not reached:
            together.update(self.costs.run(joint, begun, CHECK_EVERY, first=together["steps"]))
            is_long_enough = together["steps"] >= self.options.joint_steps
            reached = is_long_enough and self.loss(joint.autoencoder) <= self.prepared_loss * self.options.slack
        self.print_row(recipe, "joint", together, self.loss(joint.autoencoder), "yes" if reached else "no")
        counts.update(together)
        result = Counter({f"{what} after preparation": counts[what] for what in counts})
        result.update({f"{what} whole": counts[what] + self.before[what] for what in counts})
        return result

    def classifier(self) -> ClassifierTraining:
        """Stepback's stage 2."""
        torch.manual_seed(self.seed)
        options = ClassifierStage(channels=self.options.channels, dropout=0.0, **self.common)
        stage = ClassifierTraining(options, self.inputs(preparation=self.preparation))
        self.place(stage)
        return stage

    def dual_flow(self) -> DualFlowTraining:
        """Stepback's stage 3."""
        torch.manual_seed(self.seed)
        ramp = self.options.joint_steps
        options = DualFlowStage(conversion_ramp=ramp, amendment_ramp=ramp, **self.common)
        models = {"preparation": self.preparation, "classifier": self.folder / "classifier"}
        stage = DualFlowTraining(options, self.inputs(**models))
        self.place(stage)
        return stage

    def adversarial(self) -> AdversarialTraining:
        """The classifier of 2018 and, afterwards, its joint stage."""
        torch.manual_seed(self.seed)
        inputs = self.inputs(preparation=self.preparation)
        stage = AdversarialTraining(DualFlowStage(**self.common), inputs, self.options.joint_steps)
        self.place(stage)
        return stage

    @torch.no_grad()
    def loss(self, autoencoder: Autoencoder) -> float:
        """Mean L_rec of the held-out utterances."""
        autoencoder.eval()
        table: nn.Embedding = autoencoder.table
        losses = []
        for x, label in self.speech.heldout:
            x = x.to(self.device)[None]  # (1, T, M)
            losses.append(F.l1_loss(autoencoder(x, table.weight[None, label]), x))
        return float(torch.stack(losses).mean())

    def print_row(
        self, recipe: str, part: str, counts: Counter[str], loss: float = float("nan"), reached: str = ""
    ) -> None:
        """One line of the table."""
        print(
            f"{self.seed:>4} {recipe:<10}{part:<13}{counts['steps']:>7}{counts['flops'] / 1e9:>10.1f}"
            f"{counts['seconds']:>9.1f}{loss:>9.4f}  {reached}",
            flush=True,
        )


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("channels", 64),
        ("latent", 32),
        ("conv-bank-size", 4),
        ("conv-bank-channels", 16),
        ("batch-size", 8),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--preparation-steps", type=int, default=150)
    parser.add_argument("--classifier-steps", type=int, default=60)
    parser.add_argument("--joint-steps", type=int, default=60, help="at least; length of the ramps too")
    parser.add_argument("--most-steps", type=int, default=900, help="joint steps after which to give up")
    parser.add_argument(
        "--slack", type=float, default=0.92, help="the loss to reach, relative to what preparation reached"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def main() -> None:
    """Print the costs of both recipes for each seed, then the ratios."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    speech = Speech.read()
    print(f"{'seed':>4} {'recipe':<10}{'part':<13}{'steps':>7}{'GFLOP':>10}{'seconds':>9}{'loss':>9}  reached")
    totals: dict[str, Counter[str]] = {recipe: Counter() for recipe in RECIPES}
    for seed in range(options.seeds):
        bench = Bench(options, speech, seed)
        for recipe in RECIPES:
            totals[recipe].update(bench.train(recipe))
    for what in ("steps", "flops", "seconds"):
        for part in ("whole", "after preparation"):
            ratio = totals["stepback"][f"{what} {part}"] / totals["2018"][f"{what} {part}"]
            print(f"ratio of {what} (stepback / 2018), {part}: {ratio:.2f}")


if __name__ == "__main__":
    main()
