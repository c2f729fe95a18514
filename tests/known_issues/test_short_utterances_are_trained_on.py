"""Utterances shorter than the context of a stage were dropped without a word: more than a third of some corpora."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from shards_fixture import TinyCorpus, tiny_corpus
from tensors import noise

from bowerbird.config.systems.palindromic import ConverterStage, RevocoderStage
from bowerbird.config.systems.qrvc import ResynthesisStage
from bowerbird.config.systems.takin import FlowStage
from bowerbird.nn.flow import flow_loss
from bowerbird.stages.training.data import StageData
from bowerbird.systems.base import Batch, BatchSpec, crop_in_context
from bowerbird.systems.palindromic.training import ConverterTraining, RevocoderTraining, masked_l1, without_padding
from bowerbird.systems.qrvc.network import Disentangler
from bowerbird.systems.qrvc.training import ResynthesisTraining
from bowerbird.systems.takin.training import FlowTraining


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Utterances of 50 to 59 frames."""
    return tiny_corpus(tmp_path_factory.mktemp("corpus"), speakers=3, utterances=3, seconds=1.0, splits=("train",))


def test_short_utterances_are_padded_and_counted(corpus: TinyCorpus) -> None:
    roles = frozenset({"features", "frames"})
    data = StageData(BatchSpec(roles, 57, least_frames=25), corpus.manifest, {"features": corpus.features})
    items = data.items("train", data.spec.shortest)
    assert len(items) == 9
    batch = data.batches(items, seed=0, batch_size=9, part=slice(0, 9))[1]
    frames = dict(zip(batch.utt_ids, batch.frames.tolist(), strict=True))
    assert frames == {u: min(57, len(rows)) for u, rows in corpus.frames.items()} and min(frames.values()) < 57
    for row, utt_id in enumerate(batch.utt_ids):
        count = frames[utt_id]
        assert not batch.features[row, count:].any()
        if count < 57:
            assert torch.equal(batch.features[row, :count], torch.from_numpy(corpus.frames[utt_id]).float())


def test_a_stage_that_does_not_mask_takes_none(corpus: TinyCorpus) -> None:
    data = StageData(BatchSpec(frozenset({"features"}), 57), corpus.manifest, {"features": corpus.features})
    assert {item.utt_id for item in data.items("train", data.spec.shortest)} == {
        u for u, rows in corpus.frames.items() if len(rows) >= 57
    }
    with pytest.raises(ValueError, match="padded crops need the role 'frames'"):
        BatchSpec(frozenset({"features"}), 57, least_frames=20)


@pytest.mark.parametrize(
    ("stage", "options", "least"),
    [
        (ConverterTraining, ConverterStage(), 25),
        (RevocoderTraining, RevocoderStage(), 24),
        (ResynthesisTraining, ResynthesisStage(), ResynthesisStage().segment_frames),
        (FlowTraining, FlowStage(), 25),
    ],
    ids=["converter", "revocoder", "resynthesis", "flow"],
)
def test_stages_with_a_long_context_take_short_utterances(stage: Any, options: Any, least: int) -> None:
    spec = stage.batch_spec(options)
    assert spec.shortest == least < spec.segment_frames


def test_losses_do_not_see_the_padding() -> None:
    output, target, frames = noise(2, 9, 4), noise(2, 9, 4, seed=1), torch.tensor([9, 5])
    whole, half = (output[0] - target[0]), (output[1, :5] - target[1, :5])
    assert float(masked_l1(output, target, frames)) == pytest.approx(
        float((whole.abs().mean() + half.abs().mean()) / 2)
    )
    expected = (whole.square().mean() + half.square().mean()) / 2
    assert float(flow_loss(output, target, frames)) == pytest.approx(float(expected))
    assert [len(wave) for wave in without_padding(noise(2, 2880), frames)] == [2880, 1600]


def test_the_mean_of_a_residual_does_not_see_the_padding() -> None:
    model, features = Disentangler(noise(4, 6), 2).eval(), noise(1, 9, 6, seed=2)
    padded = torch.cat([features, torch.zeros(1, 4, 6)], dim=1)
    found, alone = model(padded, torch.tensor([9]))[:, :8], model(features)[:, :8]  # the last frame sees its neighbor
    torch.testing.assert_close(found, alone)


def test_inner_crops_hold_no_padding() -> None:
    tensors = {
        "uniform": torch.tensor([0.999, 0.999]),
        "frames": torch.tensor([40, 12]),
        "audio": torch.zeros(2, 320 * 40),
    }
    features = torch.arange(40.0)[None, :, None].expand(2, 40, 1)
    cropped = crop_in_context(Batch(("a", "b"), tensors), features, 10)
    assert cropped.features[:, -1, 0].tolist() == [39.0, 11.0]
    assert cropped.audio.shape == (2, 3200)
