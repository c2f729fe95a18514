"""What the studies of training share: random crops in memory, single steps of a stage, and its result as a model folder.

Letters: ``T`` frames, ``M`` mel bands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from bowerbird.stages.training.distributed import Processes
from bowerbird.stages.training.updates import StageUpdater
from bowerbird.systems.base import Batch, TrainingStage

CROP = 80  # frames, 1.6 s


class Crops:
    """Batches of random crops; the same ones at the same step of every training with the same seed."""

    def __init__(self, spectra: Mapping[str, Tensor], labels: Mapping[str, int], size: int, seed: int) -> None:
        """Crops of `CROP` frames of ``spectra`` ``(T, M)`` by utterance; ``labels`` are their speakers, by number."""
        self.spectra, self.labels, self.size, self.seed = spectra, labels, size, seed
        self.names = list(labels)

    def batch(self, step: int) -> Batch:
        """The batch of ``step``."""
        generator = torch.Generator().manual_seed(1000003 * self.seed + step)
        chosen = [self.names[n] for n in torch.randint(len(self.names), (self.size,), generator=generator).tolist()]
        crops = []
        for name in chosen:
            x = self.spectra[name]
            start = int(torch.randint(len(x) - CROP + 1, (1,), generator=generator))
            crops.append(x[start : start + CROP])
        speakers = torch.tensor([self.labels[name] for name in chosen])
        return Batch(tuple(chosen), {"features": torch.stack(crops), "speaker": speakers})


def open_updater(stage: TrainingStage, device: str = "cpu") -> StageUpdater:
    """What moves the weights of a stage, step by step, in this process."""
    return StageUpdater(stage, Processes(0, 1, torch.device(device)))


def save_model(stage: TrainingStage, folder: Path) -> Path:
    """Write a stage's result as a model folder; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in stage.exported.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(stage.architecture()))
    return folder
