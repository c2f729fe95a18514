"""The Conformer and its training with CTC: sizes, masking, gradients, decoding, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensors import millions, noise
from torch import Tensor, nn

from bowerbird.config.systems.takin import PpgStage
from bowerbird.nn.conformer import ConformerCtc, RelativeAttention, by_distance, ctc_loss, distance_sinusoids, greedy
from bowerbird.stages.training.transcripts import split_text
from bowerbird.systems.base import Batch, StageInputs
from bowerbird.systems.takin.recognizer import SIZES, PpgTraining, mask_spectrogram

NANO = {"layers": 2, "width": 32, "heads": 2, "feedforward": 64, "channels": 4, "dropout": 0.0}


def full(**options: Any) -> ConformerCtc:
    """With the sizes that the stage has by default."""
    stage = PpgStage(**options)
    return ConformerCtc(29, **{name: getattr(stage, name) for name in SIZES})


@pytest.mark.slow
def test_twelve_blocks_of_kernel_31_have_their_parameters() -> None:
    """Counted by hand for width 512, feed-forward 2048, 8 heads, 128 channels, 29 symbols."""
    model = full()
    assert len(model.blocks) == 12 and model.blocks[0].convolution.depthwise.kernel_size == (31,)
    norm, feedforward = 2 * 512, 2 * 512 + 512 * 2048 + 2048 + 2048 * 512 + 512
    attention = 4 * (512 * 512 + 512) + 512 * 512 + 2 * 512
    convolution = 2 * norm + (512 * 1024 + 1024) + (512 * 31 + 512) + (512 * 512 + 512)
    block = 2 * feedforward + norm + attention + convolution + norm
    front = (9 * 128 + 128) + (9 * 128 * 128 + 128) + (128 * 20 * 512 + 512)
    assert sum(p.numel() for p in model.parameters()) == 12 * block + front + 512 * 30 + 30
    assert millions(model) == pytest.approx(77.36, abs=0.01)


def test_full_width_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = full(layers=2)
    log_probabilities, frames = model(noise(2, 61, 80), torch.tensor([61, 40]))
    assert log_probabilities.shape == (2, 31, 30) and frames.tolist() == [31, 20]
    ctc_loss(log_probabilities, frames, torch.tensor([[1, 2, 3], [29, 4, 0]]), torch.tensor([3, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_distance_is_a_column_of_its_own() -> None:
    scores = noise(2, 3, 5, 9)
    found = by_distance(scores)
    expected = torch.stack([torch.stack([scores[..., i, 4 + j - i] for j in range(5)], -1) for i in range(5)], -2)
    assert torch.equal(found, expected)


def test_attention_knows_distances_and_not_places() -> None:
    """Two frames alike, moved together: one attends to the other in the same way; further apart it does not."""
    torch.manual_seed(0)
    attention = RelativeAttention(16, 2)
    distances, mask = distance_sinusoids(12, 16, torch.device("cpu")), torch.zeros(1, 12, dtype=torch.bool)

    def attended(first: int, second: int) -> Tensor:
        x, seen = torch.zeros(1, 12, 16), mask.clone()
        x[0, first], x[0, second] = noise(2, 16)
        seen[0, [first, second]] = True
        return attention(x, distances, seen)[0, first]

    with torch.no_grad():
        assert torch.allclose(attended(1, 4), attended(6, 9), atol=1e-6)
        assert not torch.allclose(attended(1, 4), attended(1, 5), atol=1e-4)
        assert not torch.allclose(attended(4, 1), attended(1, 4), atol=1e-4)


@pytest.mark.parametrize("samples", [400, 719, 3000, 8017])
def test_padding_does_not_change_results(samples: int) -> None:
    """An utterance alone, and as the shorter one of a batch whose padding is not even silence."""
    torch.manual_seed(0)
    model = ConformerCtc(5, **NANO).eval()
    short, long = 0.1 * noise(samples), 0.1 * noise(9000, seed=1)
    with torch.no_grad():
        alone, count = model(*model.mels([short]))
        mels, frames = model.mels([long, short])
        mels[1, int(frames[1]) :] = 7.0
        together, counts = model(mels, frames)
    assert count[0] == counts[1] == (samples // 160 + 1) // 2 >= (samples - 80) // 320
    assert torch.allclose(together[1, : int(count[0])], alone[0], atol=1e-5)


def test_the_likeliest_path_without_repeats_and_blanks() -> None:
    path = torch.tensor([0, 2, 2, 0, 2, 3, 3, 1, 0, 0, 1])
    assert greedy(nn.functional.one_hot(path, 4).float().log()) == [2, 2, 3, 1, 1]
    assert greedy(torch.zeros(3, 4)) == []


def test_the_loss_is_a_mean_over_items() -> None:
    """So that micro-batches and processes change nothing; each item weighs the same, whatever its length."""
    log_probabilities, frames = noise(2, 20, 6).log_softmax(-1), torch.tensor([20, 12])
    symbols, counts = torch.tensor([[1, 2, 2, 5], [3, 4, 0, 0]]), torch.tensor([4, 2])
    alone = [ctc_loss(*(part[n : n + 1] for part in (log_probabilities, frames, symbols, counts))) for n in range(2)]
    assert torch.allclose(ctc_loss(log_probabilities, frames, symbols, counts), sum(alone) / 2)


def tones(said: list[int]) -> Tensor:
    """A tone a symbol, 100 ms each."""
    time = torch.arange(1600) / 16000
    return torch.cat([0.3 * torch.sin(2 * torch.pi * 300 * 2**symbol * time) for symbol in said])


def spoken(*sentences: list[int], is_training: bool = True) -> Batch:
    waves = [tones(said) for said in sentences]
    pad = nn.utils.rnn.pad_sequence
    tensors = {
        "audio": pad(waves, batch_first=True),
        "samples": torch.tensor([len(wave) for wave in waves]),
        "symbols": pad([torch.tensor(s) for s in sentences], batch_first=True),
        "symbol_counts": torch.tensor([len(s) for s in sentences]),
    }
    if is_training:
        tensors["uniform"] = torch.rand(len(waves))
    return Batch(tuple(map(str, range(len(waves)))), tensors)


def training(**options: Any) -> PpgTraining:
    torch.manual_seed(0)
    stage = PpgStage(**{**NANO, "lr_warmup": 0, **options})
    return PpgTraining(stage, StageInputs(0, symbols=("a", "b", "c", "d")))


@pytest.mark.slow
def test_nano_size_learns_to_tell_tones_apart() -> None:
    """It recognizes sentences that it was not trained on, after seconds of training."""
    learner = training(learning_rate=3e-3, mask_bands=0, mask_time=0.0)
    optimizer, generator = learner.optimizers["model"], torch.Generator().manual_seed(0)
    for step in range(1, 121):
        sentences = [torch.randint(1, 5, (5,), generator=generator).tolist() for _ in range(4)]
        batch = spoken(*sentences)
        optimizer.zero_grad()
        learner.losses("model", batch, learner.forward(batch), step)["total"].backward()
        nn.utils.clip_grad_norm_(learner.model.parameters(), 1.0)
        optimizer.step()
    learner.model.eval()
    with torch.no_grad():
        metrics, _ = learner.validate(spoken([1, 3, 2, 4, 1, 2], is_training=False))
        log_probabilities, _ = learner.forward(spoken([4, 2, 3, 1], is_training=False))
    assert greedy(log_probabilities[0]) == [4, 2, 3, 1]
    assert metrics["symbol_errors"] == 0 and metrics["total"] < 0.5


def test_what_is_masked_is_the_items_own() -> None:
    """SpecAugment depends on the item's own number, not on its batch, and never reaches into padding."""
    mels, uniform, stage = noise(2, 50, 80), [0.25, 0.75], PpgStage(**NANO)
    both = mask_spectrogram(mels, [50, 30], uniform, stage)
    assert torch.equal(both[1:], mask_spectrogram(mels[1:], [30], uniform[1:], stage))
    assert 0 < float((both == 0).float().mean()) < 0.8 and not torch.equal(both[0] == 0, both[1] == 0)
    whole_frames = (both[1] == 0).all(-1)
    assert not whole_frames[30:].any()
    plain = PpgStage(**NANO, mask_bands=0, mask_time=0.0)
    assert torch.equal(mask_spectrogram(mels, [50, 30], uniform, plain), mels)


def test_transcripts_as_symbols() -> None:
    assert "".join(split_text("  It’s  Ein   Über-Fall, no. 3! ", "characters")) == "it's ein über fall no"
    assert split_text("HH AH0  L OW1", "words") == ["HH", "AH0", "L", "OW1"]
    assert split_text("...", "characters") == [] == split_text("", "words")


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ppg.kernel: 30: must be odd"):
        PpgStage(kernel=30)
    with pytest.raises(ValueError, match=r"ppg.heads: 6: twice the heads must divide width = 512"):
        PpgStage(heads=6)
