"""How many steps per second does the vocoder stage take: bowerbird's loop, and the loop as HiFi-GAN and kNN-VC publish it?

    python benchmarks/training.py --generators vocos-nano hifigan-nano --batch-size 16 --segment-frames 32 --threads 1
    python benchmarks/training.py --generators hifigan --feature-dim 1024 --device cuda --precision bfloat16

Prints, per generator, kind of losses and loop: parameters, steps per second, seconds of speech per second, and the ratio to the
published loop. Batches are noise held in memory: the step is timed (generator, discriminators, losses, both optimizers), not the
reading of shards. The published loop differentiates the generator's adversarial loss with respect to the discriminators too, and
throws that away; bowerbird's does not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from bowerbird.audio import FRAMES_PER_SECOND, HOP
from bowerbird.config.systems.vocoder import VocoderStage
from bowerbird.stages.training.distributed import Processes
from bowerbird.stages.training.updates import StageUpdater
from bowerbird.systems.base import Batch, StageInputs
from bowerbird.systems.vocoder.training import VocoderTraining

Step = Callable[[int], Any]  # takes the step's number


def prepare(generator: str, losses: str, loop: str, options: argparse.Namespace) -> tuple[Step, int]:
    """One step as a function of its number, and the generator's number of parameters."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    values = VocoderStage(
        generator=generator,
        batch_size=options.batch_size,
        segment_frames=options.segment_frames,
        precision=options.precision,
        adversarial_from=0 if losses == "adversarial" else 10**9,
    )
    stage = VocoderTraining(values, StageInputs(options.feature_dim))
    updater = StageUpdater(stage, Processes(0, 1, device))
    tensors = {
        "features": torch.randn(options.batch_size, options.segment_frames, options.feature_dim),
        "audio": 0.1 * torch.randn(options.batch_size, options.segment_frames * HOP),
    }
    batch = Batch(("noise",) * options.batch_size, tensors).to(device)
    parameters = sum(p.numel() for p in stage.exported.parameters())
    if loop == "bowerbird":
        return lambda number: updater.step(number, batch), parameters
    return lambda number: published_step(stage, batch, number), parameters


def published_step(stage: VocoderTraining[VocoderStage], batch: Batch, step: int) -> list[float]:
    """The total loss of the two updates, as in the published training scripts."""
    is_bfloat16 = stage.options.precision == "bfloat16"
    autocast = torch.autocast(batch.features.device.type, torch.bfloat16, enabled=is_bfloat16)
    totals = []
    with autocast:
        output = stage.forward(batch)
    for update in ("discriminators", "generator"):
        optimizer = stage.optimizers[update]
        optimizer.zero_grad()
        with autocast:
            losses = stage.losses(update, batch, output, step)
        losses["total"].backward()
        optimizer.step()
        totals.append(losses["total"].item())
    return totals


def timed(step: Step, steps: int, device: str) -> float:
    """Seconds per step, after one that warms up."""
    step(1)
    start = time.perf_counter()
    for number in range(2, steps + 2):
        step(number)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Time every generator with both kinds of losses, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generators", nargs="+", default=["vocos-nano", "hifigan-nano"])
    parser.add_argument("--feature-dim", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--segment-frames", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5, help="timed, after one that is not")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    speech_s = options.batch_size * options.segment_frames / FRAMES_PER_SECOND
    print(f"{'generator':<14}{'M':>7}  {'losses':<16}{'loop':<11}{'steps/s':>9}{'x real time':>13}{'ratio':>7}")
    for generator in options.generators:
        for losses in ("reconstruction", "adversarial"):
            seconds: dict[str, float] = {}
            for loop in ("published", "bowerbird") if losses == "adversarial" else ("bowerbird",):
                step, parameters = prepare(generator, losses, loop, options)
                seconds[loop] = timed(step, options.steps, options.device)
                ratio = seconds.get("published", seconds[loop]) / seconds[loop]
                rate = 1 / seconds[loop]
                cells = f"{rate:>9.3f}{speech_s * rate:>13.1f}{ratio:>7.2f}"
                print(f"{generator:<14}{parameters / 1e6:>7.2f}  {losses:<16}{loop:<11}{cells}", flush=True)


if __name__ == "__main__":
    main()
