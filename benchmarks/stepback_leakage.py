"""What the self-destructive amendment takes out of Stepback's content: a speaker probe on z, over the amendment's weight.

    python benchmarks/stepback_leakage.py                  the demo corpus, minutes on two cores
    python benchmarks/stepback_leakage.py --weights 0 10 --margins 1.0 --seeds 3

One preparation and one classifier for a seed; from there a dual flow for each weight and margin, all on the same batches, at
least --joint-steps and then until the reconstruction loss of held-out utterances is back at what preparation reached (times
--slack): so all are compared at equal reconstruction, and the steps it took are printed. The probe is linear, fitted on z
of the training utterances and tested on each speaker's held-out one: from a frame, and from the mean of a second. "preparation"
is z before any amendment, "mels" the spectrogram itself. "distance" is the mean of |x_t - x| over held-out utterances and all
other speakers, what the amendment widens.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from stepback_cost import Bench, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("channels", 64), ("latent", 32), ("bank", 4), ("bank-channels", 16), ("batch-size", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--preparation-steps", type=int, default=200)
    parser.add_argument("--classifier-steps", type=int, default=60)
    parser.add_argument("--joint-steps", type=int, default=120, help="at least")
    parser.add_argument("--most-steps", type=int, default=360, help="after which to give up")
    parser.add_argument(
        "--slack", type=float, default=1.0, help="the loss to reach, relative to what preparation reached"
    )
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 10.0, 30.0], help="of the amendment")
    parser.add_argument("--margins", type=float, nargs="+", default=[1.0], help="of the amendment")
    parser.add_argument("--decoder-rate", type=float, default=0.5)
    parser.add_argument("--robustness-every", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    print(
        f"{'seed':>4} {'content of':<22}{'steps':>6}{'loss':>9}{'distance':>10}{'frame':>8}{'second':>8}   speaker, percent"
    )
    for seed in range(options.seeds):
        bench = Bench(options, seed)
        bench.count_flops = False
        prepared = bench.prepare(quiet=True)
        report(bench, "mels", 0, None)
        report(bench, "preparation", options.preparation_steps, bench.load(prepared[0]))
        classifier, _ = bench.stepback(prepared[0])
        bench.run(classifier, options.preparation_steps, options.classifier_steps)
        save(classifier, bench.folder / f"classifier-{seed}")
        for weight in options.weights:
            for margin in options.margins if weight else options.margins[:1]:
                stage, steps = dual_flow(bench, prepared, weight, margin)
                name = f"weight {weight:g}, margin {margin:g}" if weight else "weight 0"
                report(bench, name, steps, stage.autoencoder)


def dual_flow(bench: Bench, prepared: Any, weight: float, margin: float) -> tuple[Any, int]:
    """Stage 3 with one weight and margin of the amendment, and the steps it took."""
    from bowerbird.experiments import DualFlowStage
    from bowerbird.systems.stepback import DualFlowTraining

    options = bench.options
    values = DualFlowStage(
        amendment_weight=weight,
        margin=margin,
        decoder_rate=options.decoder_rate,
        robustness_every=options.robustness_every,
        conversion_ramp=options.joint_steps // 4,
        amendment_ramp=options.joint_steps // 4,
        **bench.common,
    )
    models = {"preparation": prepared[0], "classifier": bench.folder / f"classifier-{bench.seed}"}
    stage = bench.seeded(DualFlowTraining, values, bench.inputs(**models))
    begun, target, counts = options.preparation_steps + options.classifier_steps, prepared[2] * options.slack, Counter()
    while counts["steps"] < options.most_steps:
        counts.update(bench.run(stage, begun, 20, first=counts["steps"]))
        if counts["steps"] >= options.joint_steps and bench.loss(stage.autoencoder) <= target:
            break
    return stage, counts["steps"]


def report(bench: Bench, name: str, steps: int, autoencoder: Any) -> None:
    """Probe z (of spectra where there is no autoencoder) and print one line."""
    import torch

    from bowerbird.systems.leakage import probe

    def content(x: torch.Tensor) -> torch.Tensor:
        x = x.to(bench.options.device)
        return (x if autoencoder is None else autoencoder.encoder(x[None])[0]).cpu()

    with torch.no_grad():
        fitted, tested = ([(content(x), label) for x, label in part] for part in (bench.training, bench.heldout))
    second = 50 if autoencoder is None else 50 // 2**autoencoder.encoder.halvings
    frame, _ = probe(fitted, tested, lambda z: z)
    mean, _ = probe(fitted, tested, lambda z: torch.stack([part.mean(dim=0) for part in z.split(second)]))
    loss = float("nan") if autoencoder is None else bench.loss(autoencoder)
    far = float("nan") if autoencoder is None else distance(bench, autoencoder)
    print(
        f"{bench.seed:>4} {name:<22}{steps:>6}{loss:>9.4f}{far:>10.4f}{100 * frame:>8.1f}{100 * mean:>8.1f}", flush=True
    )


def distance(bench: Bench, autoencoder: Any) -> float:
    """Mean |x_t - x| of the held-out utterances, over all other speakers t."""
    import torch

    device, found = bench.options.device, []
    with torch.no_grad():
        for x, label in bench.heldout:
            x = x.to(device)
            voices = autoencoder.table.weight[[t for t in range(len(bench.speakers)) if t != label]]
            z = autoencoder.encoder(x[None]).expand(len(voices), -1, -1)
            found.append((autoencoder.decoder(z, voices, len(x)) - x).abs().mean())
    return float(torch.stack(found).mean())


if __name__ == "__main__":
    main()
