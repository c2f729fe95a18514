"""Batches by role: what is declared is there, what is not is named, and crops inside a context."""

from __future__ import annotations

import pickle

import pytest
import torch

from bowerbird.systems.base import Batch, BatchSpec, crop_in_context, prompt_range, prompt_waves


def batch(**more: torch.Tensor) -> Batch:
    tensors = {"features": torch.arange(24.0).view(2, 6, 2), "audio": torch.arange(2 * 6 * 320.0).view(2, -1)}
    return Batch(("a", "b"), tensors | more)


def test_a_role_is_an_attribute_and_one_that_is_absent_is_named() -> None:
    assert batch().features.shape == (2, 6, 2) and batch().get("phones") is None
    with pytest.raises(
        AttributeError, match=r"no 'phones': not declared in the stage's BatchSpec; it holds features, audio"
    ):
        _ = batch().phones
    for make in (lambda: batch(units=torch.zeros(2)), lambda: BatchSpec(frozenset({"units"}), 8)):
        with pytest.raises(ValueError, match=r"units: no role of a batch; known: features, frames, audio"):
            make()


def test_a_batch_is_sliced_moved_and_pickled_whole() -> None:
    """Worker processes send batches."""
    second = batch()[1:]
    assert len(second) == 1 and second.utt_ids == ("b",) and torch.equal(second.features, batch().features[1:])
    again = pickle.loads(pickle.dumps(batch().to(torch.device("cpu"))))
    assert again.utt_ids == ("a", "b") and torch.equal(again.audio, batch().audio)


def test_a_crop_in_context_has_the_features_and_the_samples_of_the_same_frames() -> None:
    cropped = crop_in_context(batch(uniform=torch.tensor([0.0, 0.99])), batch().features, 4)
    for item, start in ((0, 0), (1, 2)):
        assert torch.equal(cropped.features[item], batch().features[item, start : start + 4])
        assert torch.equal(cropped.audio[item], batch().audio[item, 320 * start : 320 * (start + 4)])
    whole = crop_in_context(batch(), batch().features + 1, 4)  # validation: no random number
    assert torch.equal(whole.features, batch().features + 1) and torch.equal(whole.audio, batch().audio)


def test_prompts_are_in_frames_and_their_waves_without_padding() -> None:
    assert prompt_range(1.0, 3.01) == (50, 150)
    prompts = {"prompt_audio": torch.ones(2, 960), "prompt_frames": torch.tensor([3, 1])}
    assert [len(wave) for wave in prompt_waves(batch(**prompts))] == [960, 320]
