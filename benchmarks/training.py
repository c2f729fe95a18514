"""Steps a second of the vocoder stage: bowerbird's loop beside the loop as HiFi-GAN and kNN-VC publish it.

    python benchmarks/training.py --generators vocos-nano hifigan-nano --batch-size 16 --segment-frames 32 --threads 1
    python benchmarks/training.py --generators hifigan --feature-dim 1024 --device cuda --precision bfloat16

Batches are noise held in memory: what is timed is the step (generator, discriminators, losses, both optimizers), not
the reading of shards. The published loop differentiates the generator's adversarial loss with respect to the
discriminators too, and throws that away; bowerbird's does not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
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

    import torch

    torch.set_num_threads(options.threads)
    speech = options.batch_size * options.segment_frames * 0.02
    print(f"{'generator':<14}{'M':>7}  {'losses':<16}{'loop':<11}{'steps/s':>9}{'x real time':>13}{'ratio':>7}")
    for generator in options.generators:
        for losses in ("reconstruction", "adversarial"):
            seconds = {}
            for loop in ("published", "bowerbird") if losses == "adversarial" else ("bowerbird",):
                step, parameters = prepare(generator, losses, loop, options)
                seconds[loop] = timed(step, options.steps, options.device)
                ratio = seconds.get("published", seconds[loop]) / seconds[loop]
                rate = 1 / seconds[loop]
                print(
                    f"{generator:<14}{parameters / 1e6:>7.2f}  {losses:<16}{loop:<11}{rate:>9.3f}{speech * rate:>13.1f}"
                    f"{ratio:>7.2f}",
                    flush=True,
                )


def prepare(generator: str, losses: str, loop: str, options: argparse.Namespace) -> tuple[Callable[[int], Any], int]:
    """One step as a function of its number, and the generator's number of parameters."""
    import torch

    from bowerbird.config.sections.training import TrainingConfig
    from bowerbird.config.systems.vocoder import VocoderStage
    from bowerbird.stages.training.distributed import Processes
    from bowerbird.stages.training.loop import Trainer
    from bowerbird.systems.base import Batch, StageInputs
    from bowerbird.systems.vocoder.training import VocoderTraining

    torch.manual_seed(0)
    device = torch.device(options.device)
    values = VocoderStage(
        generator=generator,
        batch_size=options.batch_size,
        segment_frames=options.segment_frames,
        precision=options.precision,
        adversarial_from=0 if losses == "adversarial" else 10**9,
    )
    stage = VocoderTraining.build(values, StageInputs(options.feature_dim))
    trainer = Trainer(stage, values, TrainingConfig(), None, [], Processes(0, 1, device), None, None)
    batch = Batch(
        utt_ids=("noise",) * options.batch_size,
        features=torch.randn(options.batch_size, options.segment_frames, options.feature_dim),
        audio=0.1 * torch.randn(options.batch_size, options.segment_frames * 320),
    ).to(device)
    step = trainer.step if loop == "bowerbird" else lambda number, batch: published_step(stage, values, batch, number)
    return lambda number: step(number, batch), sum(p.numel() for p in stage.exported.parameters())


def published_step(stage: Any, options: Any, batch: Any, step: int) -> list[float]:
    """The two updates as in the published training scripts."""
    import torch

    totals = []
    with torch.autocast(batch.features.device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
        output = stage.forward(batch)
    for update in ("discriminators", "generator"):
        optimizer = stage.optimizers[update]
        optimizer.zero_grad()
        with torch.autocast(batch.features.device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
            losses = stage.losses(update, batch, output, step)
        losses["total"].backward()
        optimizer.step()
        totals.append(losses["total"].item())
    return totals


def timed(step: Callable[[int], Any], steps: int, device: str) -> float:
    """Seconds a step, after one that warms up."""
    import torch

    step(1)
    start = time.perf_counter()
    for number in range(2, steps + 2):
        step(number)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


if __name__ == "__main__":
    main()
