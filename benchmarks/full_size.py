"""What does one training step of the published sizes take: parameters, memory, seconds, and does every parameter get a gradient?

    python benchmarks/full_size.py                        # every case, on the CPU; a minute each
    python benchmarks/full_size.py --device cuda --batch 16 --bfloat16 palindromic-converter

Prints one row per case. Weights are random and batches noise: size is measured, not quality. Each case runs in a process of its own,
so that its peak memory is its own.

Letters: ``B`` batch, ``T`` frames, ``P`` frames of a prompt, ``D`` feature dimension.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bowerbird.audio import HOP
from bowerbird.config.systems.palindromic import ConverterStage, RevocoderStage
from bowerbird.config.systems.qrvc import ResynthesisStage
from bowerbird.config.systems.vocoder import VocoderStage
from bowerbird.nn.ecapa import EcapaTdnn
from bowerbird.systems.base import Batch, StageInputs, TrainingStage
from bowerbird.systems.palindromic.network import build_converter
from bowerbird.systems.palindromic.training import ConverterTraining, RevocoderTraining, SpeakerLoss
from bowerbird.systems.qrvc.training import ResynthesisTraining
from bowerbird.systems.vocoder.network import build_generator
from bowerbird.systems.vocoder.training import VocoderTraining

FEATURE_DIM = 1024  # WavLM-Large
LATE = 10**9  # a step at which every loss has joined


def write_model(folder: Path, module: nn.Module, config: Mapping[str, Any]) -> Path:
    """Write a model folder with a module's random weights; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / "model.safetensors")
    return folder


def vocoder(folder: Path) -> TrainingStage:
    """kNN-VC's HiFi-GAN with its discriminators."""
    return VocoderTraining(VocoderStage(), StageInputs(FEATURE_DIM))


def palindromic_converter(folder: Path) -> TrainingStage:
    """The Transformer, and its speaker loss through the frozen HiFi-GAN and ECAPA-TDNN."""
    options = ConverterStage()
    config = {"system": "vocoder", "generator": "hifigan", "input_dim": FEATURE_DIM}
    models = {"vocoder": write_model(folder / "vocoder", build_generator("hifigan", FEATURE_DIM), config)}
    stage = ConverterTraining(options, StageInputs(FEATURE_DIM, models=models))
    stage.speaker_loss = SpeakerLoss(EcapaTdnn().eval(), options.hidden_weight)  # published size, random weights
    stage.modules["speaker_loss"] = stage.speaker_loss
    nn.init.normal_(stage.converter.outward.weight, std=0.02)  # it starts at zero, and lets no gradient through then
    return stage


def palindromic_revocoder(folder: Path) -> TrainingStage:
    """A HiFi-GAN on what the frozen converter makes."""
    sizes = ConverterStage().model_dump(include={"layers", "heads", "width", "feedforward", "dropout", "conditioning"})
    config = {"system": "palindromic", "feature_dim": FEATURE_DIM, **sizes}
    models = {"converter": write_model(folder / "converter", build_converter(config), config)}
    return RevocoderTraining(RevocoderStage(), StageInputs(FEATURE_DIM, models=models))


def qrvc_resynthesis(folder: Path) -> TrainingStage:
    """Disentangler and HiFi-GAN against VITS's discriminators."""
    codebook = folder / "centroids.safetensors"
    save_file({"centroids": torch.randn(1024, FEATURE_DIM)}, codebook)
    return ResynthesisTraining(ResynthesisStage(), StageInputs(FEATURE_DIM, codebook=codebook))


CASES: dict[str, Callable[[Path], TrainingStage]] = {
    "vocoder": vocoder,
    "palindromic-converter": palindromic_converter,
    "palindromic-revocoder": palindromic_revocoder,
    "qrvc-resynthesis": qrvc_resynthesis,
}


def noise_batch(stage: TrainingStage, size: int) -> Batch:
    """A batch of noise with all that the stage reads, prompts of the longest kind."""
    spec = stage.batch_spec(stage.options)
    frames, prompt = spec.segment_frames, (spec.prompt_frames or (0, 0))[1]
    shapes: dict[str, Callable[[], Tensor]] = {
        "features": lambda: torch.randn(size, frames, FEATURE_DIM),
        "frames": lambda: torch.full((size,), frames),
        "audio": lambda: 0.1 * torch.randn(size, HOP * frames),
        "retrieved": lambda: torch.randn(size, frames, FEATURE_DIM),
        "prompt": lambda: torch.randn(size, prompt, FEATURE_DIM),
        "prompt_frames": lambda: torch.full((size,), prompt),
        "prompt_audio": lambda: 0.1 * torch.randn(size, HOP * prompt),
        "uniform": lambda: torch.rand(size),
    }
    ids = tuple(f"u{number}" for number in range(size))
    return Batch(ids, {role: make() for role, make in shapes.items() if role in spec})


def moved_parameters(stage: TrainingStage) -> dict[int, str]:
    """The names of the parameters that an optimizer of the stage moves, by the parameter's id."""
    moved = {id(p) for o in stage.optimizers.values() for group in o.param_groups for p in group["params"]}
    return {
        id(p): f"{module}.{name}"
        for module, m in stage.modules.items()
        for name, p in m.named_parameters()
        if id(p) in moved
    }


def take_step(stage: TrainingStage, batch: Batch, is_bfloat16: bool) -> set[int]:
    """All updates of one step, forward, backward and optimizer; returns the ids of the parameters that got a gradient."""
    touched: set[int] = set()
    with torch.autocast(batch.features.device.type, torch.bfloat16, enabled=is_bfloat16):
        for update in stage.updates(LATE):
            optimizer = stage.optimizers[update]
            optimizer.zero_grad(set_to_none=True)
            stage.losses(update, batch, stage.forward(batch), LATE)["total"].backward()
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            touched |= {id(p) for p in parameters if p.grad is not None and p.grad.abs().sum() > 0}
            optimizer.step()
    return touched


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one case, from two steps; the second one is timed."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        stage = CASES[case](Path(folder))
    for module in stage.modules.values():
        module.to(device)
    batch = noise_batch(stage, options.batch).to(device)
    touched, seconds = set[int](), 0.0
    for _ in range(2):
        started = time.perf_counter()
        touched |= take_step(stage, batch, options.bfloat16)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "million": sum(p.numel() for o in stage.optimizers.values() for g in o.param_groups for p in g["params"]) / 1e6,
        "gib": peak / 2**30,
        "seconds": seconds,
        "without_gradient": sorted(name for key, name in moved_parameters(stage).items() if key not in touched),
    }


def main() -> None:
    """Run every case in a process of its own, and print its row; with --measure, be that process."""
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


if __name__ == "__main__":
    main()
