"""Linear probes: how well a label can be read off the rows of a representation.

A probe is multinomial logistic regression. It is fitted on a part of the rows and scored on the others; its accuracy says
something only beside its chance level, the accuracy of always naming the class that is commonest in the fitted rows.

Letters: ``R`` rows, ``D`` dimension, ``T`` frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bowerbird.audio import FRAMES_PER_SECOND

FITTED_SHARE = 2 / 3  # of an utterance, from its beginning, where fitted and tested rows come from the same utterance
LEARNING_RATE, WEIGHT_DECAY = 0.02, 0.01  # of AdamW on all fitted rows at once; the rate falls to 0 as a cosine
SMALLEST_DEVIATION = 1e-6  # a dimension that varies less is not scaled up further


@dataclass(frozen=True)
class LabeledRows:
    """Rows of one representation, their labels by target (speaker, phone), and which of them a probe is fitted on."""

    values: Tensor  # (R, D) float32
    labels: Mapping[str, Tensor]  # (R,) int64 each
    is_fitted: Tensor  # (R,) bool

    @classmethod
    def alike(cls, values: Tensor, labels: Mapping[str, int], is_fitted: bool) -> LabeledRows:
        """Rows ``(R, D)`` that have their labels in common."""
        count = len(values)
        return cls(
            values,
            {target: torch.full((count,), label) for target, label in labels.items()},
            torch.full((count,), is_fitted),
        )

    @classmethod
    def join(cls, parts: Sequence[LabeledRows]) -> LabeledRows:
        """The rows of all parts, which have the same targets, in their order."""
        return cls(
            torch.cat([part.values for part in parts]),
            {target: torch.cat([part.labels[target] for part in parts]) for target in parts[0].labels},
            torch.cat([part.is_fitted for part in parts]),
        )

    @property
    def can_be_probed(self) -> bool:
        """Whether there are rows to fit on and rows to score on."""
        return bool(self.is_fitted.any()) and not bool(self.is_fitted.all())


@dataclass(frozen=True)
class ProbeScore:
    """Share of the tested rows whose label a probe names, and the share that naming the commonest class gives."""

    accuracy: float
    chance_level: float
    num_classes: int
    num_fitted: int  # rows
    num_tested: int  # rows


def linear_probe(rows: LabeledRows, target: str, steps: int = 150) -> ProbeScore:
    """The score of a probe for ``target`` after ``steps`` of AdamW on rows standardized by the fitted ones.

    Torch's global generator is seeded with 0, so that the same rows give the same score.
    """
    labels, is_fitted = rows.labels[target], rows.is_fitted
    fitted_values = rows.values[is_fitted]
    mean, deviation = fitted_values.mean(dim=0), fitted_values.std(dim=0).clamp_min(SMALLEST_DEVIATION)
    values = (rows.values - mean) / deviation
    x, y, num_outputs = values[is_fitted], labels[is_fitted], int(labels.max()) + 1
    torch.manual_seed(0)
    layer = torch.nn.Linear(x.shape[1], num_outputs)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(layer(x), y).backward()
            optimizer.step()
            schedule.step()
    truth, commonest = labels[~is_fitted], torch.bincount(y, minlength=num_outputs).argmax()
    with torch.no_grad():
        is_right = layer(values[~is_fitted]).argmax(dim=-1) == truth
    return ProbeScore(
        float(is_right.float().mean()),
        float((truth == commonest).float().mean()),
        len(labels.unique()),
        len(y),
        len(truth),
    )


def second_means(values: Tensor, start: int, stop: int) -> Tensor:
    """Means ``(R, D)`` of the seconds of frames ``(T, D)`` that begin with ``start``, one after the other.

    The last one begins half a second before ``stop`` at the latest, and ends at ``T`` where it would go further.
    """
    half = FRAMES_PER_SECOND // 2
    means = [
        values[first : first + FRAMES_PER_SECOND].mean(dim=0) for first in range(start, stop - half, FRAMES_PER_SECOND)
    ]
    return torch.stack(means) if means else values.new_zeros(0, values.shape[1])
