"""A recognizer of our own for Takin-VC's phonetic features: a Conformer that learns with CTC from the corpus's transcripts.

The paper's own (HybridFormer) is not to be had. Ours is Gulati et al. 2020 (`nn/conformer.py`): 12 blocks, kernel 31. Its
other sizes, the rates and SpecAugment's shares (Park et al. 2019; two masks over bands, ten over time) are our choice.
Trained, it is frozen, and `phonetic:trained:EXPERIMENT` in `features` makes its posteriors or the states of a block.
"""

from __future__ import annotations

import hashlib
from typing import Any, Self

import torch
import torchaudio
from torch import Tensor, nn

from bowerbird.config.systems.takin import PpgStage
from bowerbird.nn.conformer import ConformerCtc, ctc_loss, greedy
from bowerbird.systems.base import Batch, DataNeeds, StageInputs, TrainingStage, adamw, warmed_up_rate

SIZES = ("width", "layers", "heads", "feedforward", "kernel", "channels", "dropout")


class PpgTraining(TrainingStage):
    """Waves and what is said in them; the loss is CTC's, in nats a symbol."""

    def __init__(self, options: PpgStage, inputs: StageInputs) -> None:
        self.options, self.symbols = options, inputs.symbols
        self.model = ConformerCtc(len(self.symbols), **{name: getattr(options, name) for name in SIZES})
        self.modules = {"model": self.model}
        self.optimizers = {"model": adamw(self.model, options)}

    @classmethod
    def data_needs(cls, options: PpgStage) -> DataNeeds:
        return DataNeeds(segment_frames=1, audio=True, transcripts=options.symbols, longest_s=options.longest_s)

    @classmethod
    def build(cls, options: PpgStage, inputs: StageInputs) -> Self:
        return cls(options, inputs)

    def updates(self, step: int) -> tuple[str, ...]:
        return ("model",)

    def learning_rate(self, step: int) -> float:
        return warmed_up_rate(self.options, step)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logarithms of probabilities ``(batch, T, symbols + 1)``, and frames ``(batch,)``."""
        counts = batch.samples.tolist()
        mels, frames = self.model.mels([wave[:count] for wave, count in zip(batch.audio, counts, strict=True)])
        if batch.chance is not None:
            mels = self._hide(mels, frames.tolist(), batch.chance.tolist())
        return self.model(mels, frames)

    def _hide(self, mels: Tensor, frames: list[int], chances: list[float]) -> Tensor:
        """SpecAugment: stretches of bands and of time set to the mean; drawn from each item's own chance."""
        hidden = mels.clone()
        for number, (count, chance) in enumerate(zip(frames, chances, strict=True)):
            digest = hashlib.sha256(repr(chance).encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            draws = torch.rand(2, 12, generator=generator).tolist()
            for place, (width, start) in enumerate(zip(*draws, strict=True)):
                over_bands = place < 2
                room = mels.shape[2] if over_bands else count
                longest = self.options.mask_bands if over_bands else self.options.mask_time * count
                size = int(width * (longest + 1))
                first = int(start * (room - size + 1))
                if over_bands:
                    hidden[number, :, first : first + size] = 0
                else:
                    hidden[number, first : first + size] = 0
        return hidden

    def losses(self, update: str, batch: Batch, output: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        return {"total": ctc_loss(*output, batch.symbols, batch.symbol_counts)}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """The loss, and errors a symbol of the likeliest path."""
        output = self.forward(batch)
        said = batch.symbols[0, : int(batch.symbol_counts[0])].tolist()
        errors = torchaudio.functional.edit_distance(said, greedy(output[0][0, : int(output[1][0])])) / len(said)
        loss = ctc_loss(*output, batch.symbols, batch.symbol_counts)
        return {"total": loss, "symbol_errors": torch.tensor(errors)}, None

    @property
    def exported(self) -> nn.Module:
        return self.model

    def architecture(self) -> dict[str, Any]:
        sizes = {name: getattr(self.options, name) for name in SIZES}
        return {"system": "takin", "model": "conformer-ctc", "symbols": list(self.symbols), **sizes}
