"""Training stage `ppg`: a recognizer of our own for Takin-VC's phonetic features, a Conformer that learns with CTC.

The paper's own (HybridFormer) is not published. Ours is Gulati et al. 2020 (``nn/conformer.py``): 12 blocks, kernel 31. Its
other sizes, the rates and SpecAugment's shares (Park et al. 2019; two masks over bands, ten over time) are our choice.
Trained, it is frozen: features of kind phonetic and encoder trained:EXPERIMENT are its posteriors or the states of a block.

Letters: ``B`` batch, ``T`` frames, ``M`` mel bands, ``S`` symbols.
"""

from __future__ import annotations

from typing import Any

import torch
import torchaudio
from torch import Tensor, nn

from bowerbird.config.systems.takin import PpgStage
from bowerbird.nn.conformer import ConformerCtc, ctc_loss, greedy
from bowerbird.systems.base import Batch, BatchSpec, StageInputs, TrainingStage, adamw, warmed_up_rate
from bowerbird.systems.takin.network import item_generator

SIZES = ("width", "layers", "heads", "feedforward", "kernel", "channels", "dropout")


class PpgTraining(TrainingStage[PpgStage]):
    """Waves and their transcripts; the loss is CTC's, in nats per symbol."""

    name = "ppg"

    def __init__(self, options: PpgStage, inputs: StageInputs) -> None:
        super().__init__(options, inputs)
        self.model = ConformerCtc(len(inputs.symbols), **{name: getattr(options, name) for name in SIZES})
        self.load_start(self.model, ("model", "symbols", *(name for name in SIZES if name != "dropout")))
        self.modules = {"model": self.model}
        self.optimizers = {"model": adamw(self.model, options)}

    @classmethod
    def batch_spec(cls, options: PpgStage) -> BatchSpec:
        """Whole utterances with their transcripts."""
        roles = frozenset({"audio", "samples", "symbols", "symbol_counts", "uniform"})
        return BatchSpec(roles, segment_frames=1, transcripts=options.symbols, longest_s=options.longest_s)

    def updates(self, step: int) -> tuple[str, ...]:
        """Every step moves the whole model."""
        return ("model",)

    def learning_rate(self, step: int) -> float:
        """The learning rate at ``step``, which rises linearly over the warm-up."""
        return warmed_up_rate(self.options, step)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logarithms of probabilities ``(B, T, S + 1)``, and frames ``(B,)``."""
        counts, uniform = batch.samples.tolist(), batch.get("uniform")
        mels, frames = self.model.mels([wave[:count] for wave, count in zip(batch.audio, counts, strict=True)])
        if uniform is not None:
            mels = mask_spectrogram(mels, frames.tolist(), uniform.tolist(), self.options)
        return self.model(mels, frames)

    def losses(self, update: str, batch: Batch, output: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        """CTC's loss."""
        return {"total": ctc_loss(*output, batch.symbols, batch.symbol_counts)}

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        """The loss, and errors per symbol of the likeliest path."""
        output = self.forward(batch)
        transcript = batch.symbols[0, : int(batch.symbol_counts[0])].tolist()
        recognized = greedy(output[0][0, : int(output[1][0])])
        errors = torchaudio.functional.edit_distance(transcript, recognized) / len(transcript)
        loss = ctc_loss(*output, batch.symbols, batch.symbol_counts)
        return {"total": loss, "symbol_errors": torch.tensor(errors)}, None

    @property
    def exported(self) -> nn.Module:
        """The recognizer."""
        return self.model

    def architecture(self) -> dict[str, Any]:
        """The recognizer's sizes and its symbols."""
        sizes = {name: getattr(self.options, name) for name in SIZES}
        return {"system": "takin", "model": "conformer-ctc", "symbols": list(self.inputs.symbols), **sizes}


def mask_spectrogram(mels: Tensor, frames: list[int], uniform: list[float], options: PpgStage) -> Tensor:
    """SpecAugment: stretches of bands and of time of ``mels`` ``(B, T, M)`` set to the mean, which is zero.

    They are drawn from each item's own number ``uniform``, and lie within its ``frames``.
    """
    masked = mels.clone()
    for item, (count, number) in enumerate(zip(frames, uniform, strict=True)):
        draws = torch.rand(2, 12, generator=item_generator(repr(number))).tolist()
        for place, (width, start) in enumerate(zip(*draws, strict=True)):
            is_over_bands = place < 2
            room = mels.shape[2] if is_over_bands else count
            longest = options.mask_bands if is_over_bands else options.mask_time * count
            size = int(width * (longest + 1))
            first = int(start * (room - size + 1))
            if is_over_bands:
                masked[item, :, first : first + size] = 0
            else:
                masked[item, first : first + size] = 0
    return masked
