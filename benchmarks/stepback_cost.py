"""What training Stepback costs beside the recipe it comes from (Chou et al. 2018, stage 1), to the same reconstruction loss.

    python benchmarks/stepback_cost.py                     the demo corpus, minutes on two cores
    python benchmarks/stepback_cost.py --channels 512 --latent 512 --bank 8 --bank-channels 128 --batch-size 32 --device cuda

Both have the same encoder and decoder, prepared by the same number of reconstruction steps, a classifier trained alone for
the same number of steps, and then go on in their own way until the reconstruction loss of held-out utterances, own speaker
to own speaker, is back at what preparation reached (times --slack), at least --joint-steps after their ramps began:

    2018       a classifier on the content z, which learns five steps for each one of encoder and decoder (the authors'
               setting), those with L_rec - 0.01 L_clf; each step has its own batch. Its GAN stage is left out.
    stepback   the dual flow with its amendment and the steps of robustness; the classifier hears spectra and stays as it is.

Printed: optimizer steps (of the loop: a batch each), FLOPs (as torch.utils.flop_counter counts one step of each kind, times
their number) and seconds, of each recipe whole and after preparation, with the ratios. "reached" says whether the loss was.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("channels", 64), ("latent", 32), ("bank", 4), ("bank-channels", 16), ("batch-size", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--preparation-steps", type=int, default=150)
    parser.add_argument("--classifier-steps", type=int, default=60)
    parser.add_argument("--joint-steps", type=int, default=60, help="at least; of the ramp too")
    parser.add_argument("--most-steps", type=int, default=900, help="joint steps after which to give up")
    parser.add_argument(
        "--slack", type=float, default=0.92, help="the loss to reach, relative to what preparation reached"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    print(f"{'seed':>4} {'recipe':<10}{'part':<13}{'steps':>7}{'GFLOP':>10}{'seconds':>9}{'loss':>9}  reached")
    totals: dict[str, list[Counter[str]]] = {"2018": [], "stepback": []}
    for seed in range(options.seeds):
        bench = Bench(options, seed)
        prepared = bench.prepare()
        for recipe in totals:
            totals[recipe].append(bench.train(recipe, prepared))
    for what in ("steps", "flops", "seconds"):
        for part in ("whole", "after preparation"):
            sums = {r: sum(c[f"{what} {part}"] for c in counters) for r, counters in totals.items()}
            ratio = sums["stepback"] / sums["2018"]
            print(f"ratio of {what} (stepback / 2018), {part}: {ratio:.2f}")


class Bench:
    """The demo corpus in memory, and the two recipes on it."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self.options, self.seed = options, seed
        self.speakers, self.training, self.heldout = read_demo()
        self.folder = Path(tempfile.mkdtemp())
        self.count_flops = True
        self._known: dict[Any, int] = {}  # FLOPs of a step of each kind
        self.common = {
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "seed": seed,
            "valid_every": 10**9,
        }

    def batch(self, step: int, frames: int = 80) -> Any:
        """Random crops; the same ones at the same step of every recipe."""
        import torch

        from bowerbird.systems.base import Batch

        generator = torch.Generator().manual_seed(1000003 * self.seed + step)
        chosen = torch.randint(len(self.training), (self.options.batch_size,), generator=generator).tolist()
        crops, labels = [], []
        for number in chosen:
            x, label = self.training[number]
            start = int(torch.randint(len(x) - frames + 1, (1,), generator=generator))
            crops.append(x[start : start + frames])
            labels.append(label)
        ids = tuple(str(number) for number in chosen)
        return Batch(ids, torch.stack(crops), speaker=torch.tensor(labels)).to(torch.device(self.options.device))

    def inputs(self, **models: Path) -> Any:
        from bowerbird.systems.base import StageInputs

        return StageInputs(80, models=models, speakers=self.speakers)

    def prepare(self, quiet: bool = False) -> Any:
        """Stage 1, common to both; its model folder, counts and loss."""
        from bowerbird.config.systems.stepback import PreparationStage
        from bowerbird.systems.stepback.training import PreparationTraining

        sizes = {key: getattr(self.options, key) for key in ("channels", "latent", "bank", "bank_channels")}
        stage = self.seeded(
            PreparationTraining, PreparationStage(speakers="table", dropout=0.0, **sizes, **self.common), self.inputs()
        )
        counts = self.run(stage, 0, self.options.preparation_steps)
        loss = self.loss(stage.autoencoder)
        if not quiet:
            self._say("both", "preparation", counts, loss, "")
        return save(stage, self.folder / f"preparation-{self.seed}"), counts, loss

    @staticmethod
    def load(folder: Path) -> Any:
        """The autoencoder in a model folder."""
        from bowerbird.systems.stepback.network import load_autoencoder

        return load_autoencoder(folder)[0]

    def train(self, recipe: str, prepared: Any) -> Counter[str]:
        """A recipe's own classifier and joint training, to preparation's loss."""
        folder, before, loss = prepared
        target = loss * self.options.slack
        start = self.options.preparation_steps
        if recipe == "stepback":
            first, joint = self.stepback(folder)
        else:
            first = joint = self._adversarial(folder)
        counts = Counter(self.run(first, start, self.options.classifier_steps))
        self._say(recipe, "classifier", counts, float("nan"), "")
        if recipe == "stepback":
            save(first, self.folder / f"classifier-{self.seed}")
            joint = joint()
        else:
            first.alone = False
        begun, reached, together = start + self.options.classifier_steps, False, Counter()
        while together["steps"] < self.options.most_steps and not reached:
            together.update(self.run(joint, begun, 12, first=together["steps"]))
            reached = together["steps"] >= self.options.joint_steps and self.loss(joint.autoencoder) <= target
        self._say(recipe, "joint", together, self.loss(joint.autoencoder), "yes" if reached else "no")
        counts.update(together)
        result = Counter({f"{what} after preparation": counts[what] for what in counts})
        result.update({f"{what} whole": counts[what] + before[what] for what in counts})
        return result

    def stepback(self, folder: Path) -> Any:
        from bowerbird.config.systems.stepback import ClassifierStage, DualFlowStage
        from bowerbird.systems.stepback.training import ClassifierTraining, DualFlowTraining

        values = {"channels": self.options.channels, "dropout": 0.0, **self.common}
        classifier = self.seeded(ClassifierTraining, ClassifierStage(**values), self.inputs(preparation=folder))
        ramps = {"conversion_ramp": self.options.joint_steps, "amendment_ramp": self.options.joint_steps}
        models = {"preparation": folder, "classifier": self.folder / f"classifier-{self.seed}"}
        return classifier, lambda: self.seeded(
            DualFlowTraining, DualFlowStage(**ramps, **self.common), self.inputs(**models)
        )

    def _adversarial(self, folder: Path) -> Any:
        from bowerbird.config.systems.stepback import DualFlowStage

        stage = self.seeded(adversarial_stage(), DualFlowStage(**self.common), self.inputs(preparation=folder))
        stage.ramp_steps = self.options.joint_steps
        return stage

    def seeded(self, kind: Any, values: Any, inputs: Any) -> Any:
        import torch

        torch.manual_seed(self.seed)
        stage = kind.build(values, inputs)
        for module in stage.modules.values():
            module.to(self.options.device)
        return stage

    def run(self, stage: Any, begun: int, count: int, first: int = 0) -> Counter[str]:
        """``count`` steps of a stage: their number, FLOPs and seconds. Batches are numbered on from ``begun``."""
        import torch

        from bowerbird.config.sections.training import TrainingConfig
        from bowerbird.stages.training.distributed import Processes
        from bowerbird.stages.training.loop import Trainer

        device = torch.device(self.options.device)
        trainer = Trainer(stage, stage.options, TrainingConfig(), None, [], Processes(0, 1, device), None, None)
        kinds: Counter[tuple[str, ...]] = Counter()
        started = time.perf_counter()
        for step in range(first + 1, first + count + 1):
            trainer.step(step, self.batch(begun + step))
            kinds[stage.updates(step)] += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        flops = 0
        if self.count_flops:
            flops = sum(number * self._flops(trainer, kind, first + count) for kind, number in kinds.items())
        return Counter({"steps": count, "flops": flops, "seconds": seconds})

    def _flops(self, trainer: Any, kind: tuple[str, ...], near: int) -> int:
        """FLOPs of one step whose updates are ``kind``; the weights are put back."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        stage = trainer.stage
        key = (type(stage).__name__, kind, getattr(stage, "alone", None))
        known = self._known
        if key not in known:
            step = next(s for s in range(max(1, near), near + 50) if stage.updates(s) == kind)
            state = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in stage.modules.items()}
            moments = {n: copy.deepcopy(o.state_dict()) for n, o in stage.optimizers.items()}
            with FlopCounterMode(display=False) as counter:
                trainer.step(step, self.batch(step))
            known[key] = counter.get_total_flops()
            for name, module in stage.modules.items():
                module.load_state_dict(state[name])
            for name, optimizer in stage.optimizers.items():
                optimizer.load_state_dict(moments[name])
            torch.manual_seed(self.seed)
        return known[key]

    def loss(self, autoencoder: Any) -> float:
        """Mean L_rec of the held-out utterances."""
        import torch
        import torch.nn.functional as F

        device = torch.device(self.options.device)
        autoencoder.eval()
        with torch.no_grad():
            losses = [
                F.l1_loss(autoencoder(x[None], autoencoder.table.weight[None, label]), x[None])
                for x, label in ((x.to(device), label) for x, label in self.heldout)
            ]
        return float(torch.stack(losses).mean())

    def _say(self, recipe: str, part: str, counts: Counter[str], loss: float, reached: str) -> None:
        print(
            f"{self.seed:>4} {recipe:<10}{part:<13}{counts['steps']:>7}{counts['flops'] / 1e9:>10.1f}"
            f"{counts['seconds']:>9.1f}{loss:>9.4f}  {reached}",
            flush=True,
        )


def adversarial_stage() -> Any:
    """The 2018 recipe's joint stage on the same networks, as a training stage."""
    import torch.nn.functional as F
    from torch import nn

    from bowerbird.nn.multitarget import CENTRE, SPREAD, Classifier
    from bowerbird.systems.stepback.network import load_autoencoder
    from bowerbird.systems.stepback.training import SpectrogramTraining

    class LatentClassifier(nn.Module):
        """Who is heard in z: the classifier of spectra, on z put where it expects spectra."""

        def __init__(self, latent: int, channels: int, speakers: int) -> None:
            super().__init__()
            self.inner = Classifier(latent, channels, speakers, 0.0)

        def forward(self, content: Any) -> Any:
            return self.inner(content * SPREAD + CENTRE)

    class AdversarialTraining(SpectrogramTraining):
        alone = True  # only the classifier learns, as in its pre-training
        classifier_steps, weight, ramp_steps = 5, 0.01, 1

        def __init__(self, options: Any, inputs: Any) -> None:
            super().__init__(options, inputs)
            self.autoencoder, config = load_autoencoder(inputs.models["preparation"])
            self.autoencoder.requires_grad_(True)
            self.judge = LatentClassifier(config["latent"], config["channels"], len(config["names"]))
            self.modules = {"autoencoder": self.autoencoder, "judge": self.judge}
            self.optimizers = {"judge": self.adam(self.judge), "autoencoder": self.adam(self.autoencoder)}

        def updates(self, step: int) -> tuple[str, ...]:
            turn = step % (self.classifier_steps + 1) == 0 and not self.alone
            return ("autoencoder",) if turn else ("judge",)

        def forward(self, batch: Any) -> Any:
            return None

        def losses(self, update: str, batch: Any, output: Any, step: int) -> dict[str, Any]:
            content = self.autoencoder.encoder(batch.features)
            heard = F.cross_entropy(self.embed_with_maps(content), batch.speaker)
            if update == "judge":
                return {"total": heard}
            voice = self.autoencoder.table(batch.speaker)
            made = self.autoencoder.decoder(content, voice, batch.features.shape[1])
            weight = self.weight * min(1.0, step / self.ramp_steps)
            return {"total": F.l1_loss(made, batch.features) - weight * heard}

        def validate(self, batch: Any) -> Any:
            raise NotImplementedError("the benchmark measures the loss itself")

        @property
        def exported(self) -> nn.Module:
            return self.autoencoder

    return AdversarialTraining


def read_demo() -> tuple[tuple[str, ...], list[Any], list[Any]]:
    """Speakers of the demo's training split; (log-mel, speaker's number) to train on, and the last of each, held out."""
    import pandas as pd
    import torch

    from bowerbird.audio import read_audio
    from bowerbird.config.paths import bundled
    from bowerbird.nn.mel import LogMel

    root = Path(bundled("bundled:demo"))
    table = pd.read_csv(root / "utterances.tsv", sep="\t")
    table = table[table["split"] == "train"].sort_values("utt_id")
    speakers, mel = tuple(sorted(set(table["speaker"]))), LogMel()
    training, heldout = [], []
    for label, name in enumerate(speakers):
        paths = list(table[table["speaker"] == name]["path"])
        spectra = [mel(torch.from_numpy(read_audio(root / path))[None])[0] for path in paths]
        training += [(x, label) for x in spectra[:-1] if len(x) >= 80]
        heldout.append((spectra[-1], label))
    return speakers, training, heldout


def save(stage: Any, folder: Path) -> Path:
    """A stage's result as a model folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.detach().cpu().contiguous() for k, v in stage.exported.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(stage.architecture()))
    return folder


if __name__ == "__main__":
    main()
