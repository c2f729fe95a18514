"""One training step of the published sizes: parameters, memory, seconds, and whether every parameter gets a gradient.

    python benchmarks/full_size.py                        # every case, on the CPU; a minute each
    python benchmarks/full_size.py --device cuda --batch 16 --bfloat16 palindromic-converter

Weights are random and batches noise: what is measured is size, not quality. Each case runs in a process of its own, so
that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FEATURE_DIM = 1024  # WavLM-Large


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="case", help=f"of {', '.join(CASES)}")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--measure", metavar="CASE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options)))
        return
    print(f"{'case':<24}{'million':>9}{'GiB':>7}{'s/step':>8}  without gradient")
    for case in options.cases or CASES:
        words = [sys.executable, __file__, "--measure", case, "--batch", str(options.batch), "--device", options.device]
        words += ["--bfloat16"] if options.bfloat16 else []
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        without = ", ".join(found["without_gradient"]) or "none"
        print(f"{case:<24}{found['million']:>9.2f}{found['gib']:>7.2f}{found['seconds']:>8.2f}  {without}", flush=True)


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Two steps of one case (the second is timed): all its updates, forward, backward and optimizer."""
    import torch

    torch.manual_seed(0)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        stage = CASES[case](Path(folder))
    for module in stage.modules.values():
        module.to(device)
    batch = noise_batch(stage, options.batch).to(device)
    step, touched, seconds = 10**9, set(), 0.0  # late: every loss has joined
    trained = {id(p): name for name, p in named_parameters(stage)}
    for _ in range(2):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bfloat16):
            for update in stage.updates(step):
                optimizer = stage.optimizers[update]
                optimizer.zero_grad(set_to_none=True)
                stage.losses(update, batch, stage.forward(batch), step)["total"].backward()
                touched |= {
                    id(p)
                    for group in optimizer.param_groups
                    for p in group["params"]
                    if p.grad is not None and p.grad.abs().sum() > 0
                }
                optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    peak = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {
        "million": sum(p.numel() for o in stage.optimizers.values() for g in o.param_groups for p in g["params"]) / 1e6,
        "gib": peak / 2**30,
        "seconds": seconds,
        "without_gradient": sorted(name for key, name in trained.items() if key not in touched),
    }


def named_parameters(stage: Any) -> list[tuple[str, Any]]:
    """Every parameter that an optimizer of the stage moves, by name."""
    moved = {id(p) for o in stage.optimizers.values() for group in o.param_groups for p in group["params"]}
    return [
        (f"{module}.{name}", p)
        for module, m in stage.modules.items()
        for name, p in m.named_parameters()
        if id(p) in moved
    ]


def noise_batch(stage: Any, size: int) -> Any:
    """A batch of noise with all that the stage needs, prompts of the longest kind."""
    import torch

    from bowerbird.systems.base import Batch

    needs = stage.data_needs(stage.options)
    frames, prompt = needs.segment_frames, (needs.prompt_frames or (0, 0))[1]
    return Batch(
        utt_ids=tuple(f"u{number}" for number in range(size)),
        features=torch.randn(size, frames, FEATURE_DIM),
        audio=0.1 * torch.randn(size, 320 * frames),
        retrieved=torch.randn(size, frames, FEATURE_DIM) if needs.pairs else None,
        prompt=torch.randn(size, prompt, FEATURE_DIM) if prompt else None,
        prompt_frames=torch.full((size,), prompt) if prompt else None,
        prompt_audio=0.1 * torch.randn(size, 320 * prompt) if prompt else None,
        chance=torch.rand(size),
    )


# ---------------------------------------------------------------------------------------------------------------- cases
def write_model(folder: Path, module: Any, config: dict[str, Any]) -> Path:
    """A model folder with random weights."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / "model.safetensors")
    return folder


def vocoder_folder(folder: Path) -> Path:
    from bowerbird.systems.vocoder.network import build_generator

    config = {"system": "vocoder", "generator": "hifigan", "input_dim": FEATURE_DIM}
    return write_model(folder / "vocoder", build_generator("hifigan", FEATURE_DIM), config)


def vocoder(folder: Path) -> Any:
    """kNN-VC's HiFi-GAN with its discriminators."""
    from bowerbird.config.systems.vocoder import VocoderStage
    from bowerbird.systems.base import StageInputs
    from bowerbird.systems.vocoder.training import VocoderTraining

    return VocoderTraining.build(VocoderStage(), StageInputs(FEATURE_DIM))


def palindromic_converter(folder: Path) -> Any:
    """The Transformer, its speaker loss through the frozen HiFi-GAN and ECAPA-TDNN."""
    from torch import nn

    from bowerbird.config.systems.palindromic import ConverterStage
    from bowerbird.nn.ecapa import EcapaTdnn
    from bowerbird.systems.base import StageInputs
    from bowerbird.systems.palindromic.training import ConverterTraining, SpeakerLoss

    options = ConverterStage()
    stage = ConverterTraining.build(options, StageInputs(FEATURE_DIM, models={"vocoder": vocoder_folder(folder)}))
    stage.speaker_loss = SpeakerLoss(EcapaTdnn().eval(), options.hidden_weight)  # published size, random weights
    stage.modules["speaker_loss"] = stage.speaker_loss
    nn.init.normal_(stage.converter.outward.weight, std=0.02)  # it starts at zero, and lets no gradient through then
    return stage


def palindromic_revocoder(folder: Path) -> Any:
    """A HiFi-GAN on what the frozen converter makes."""
    from bowerbird.config.systems.palindromic import RevocoderStage
    from bowerbird.systems.base import StageInputs
    from bowerbird.systems.palindromic.network import build_converter
    from bowerbird.systems.palindromic.training import RevocoderTraining

    names = {"layers": 6, "heads": 16, "width": 1024, "feedforward": 4096, "dropout": 0.1, "conditioning": "concat"}
    config = {"system": "palindromic", "feature_dim": FEATURE_DIM, **names}
    models = {"converter": write_model(folder / "converter", build_converter(config), config)}
    return RevocoderTraining.build(RevocoderStage(), StageInputs(FEATURE_DIM, models=models))


def qrvc_resynthesis(folder: Path) -> Any:
    """Disentangler and HiFi-GAN against VITS's discriminators."""
    import torch
    from safetensors.torch import save_file

    from bowerbird.config.systems.qrvc import ResynthesisStage
    from bowerbird.systems.base import StageInputs
    from bowerbird.systems.qrvc.training import ResynthesisTraining

    codebook = folder / "centroids.safetensors"
    save_file({"centroids": torch.randn(1024, FEATURE_DIM)}, codebook)
    return ResynthesisTraining.build(ResynthesisStage(), StageInputs(FEATURE_DIM, codebook=codebook))


CASES: dict[str, Callable[[Path], Any]] = {
    "vocoder": vocoder,
    "palindromic-converter": palindromic_converter,
    "palindromic-revocoder": palindromic_revocoder,
    "qrvc-resynthesis": qrvc_resynthesis,
}

if __name__ == "__main__":
    main()
