"""kNN-VC's retrieval: keys and values, the source's own movement, and options that only WORLD's parameters have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bowerbird.config.loading import parse_config
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.nn import world
from bowerbird.stages.conversion import files
from bowerbird.systems.base import Utterance
from bowerbird.systems.knnvc.retrieval import APART, own_neighbors
from bowerbird.systems.knnvc.system import KnnVC


class Silent:
    """A vocoder that plays nothing."""

    def vocode(self, features: torch.Tensor) -> torch.Tensor:
        return torch.zeros(320 * len(features))


def rows(seed: int, frames: int, dim: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, dim)).astype(np.float32)


def utterance(values: np.ndarray, keys: np.ndarray | None = None) -> Utterance:
    given = None if keys is None else torch.from_numpy(keys)
    return Utterance("u", torch.zeros(320 * len(values)), torch.from_numpy(values), keys=given)


def convert(source: Utterance, *references: Utterance, **options: object) -> np.ndarray:
    found = KnnVC(Silent(), KnnvcExperiment(**options)).convert(source, list(references)).features
    assert found is not None
    return found.numpy()


def test_neighbors_are_searched_by_keys_and_read_from_values() -> None:
    keys, values = rows(0, 30, 4), rows(1, 30)
    places = np.array([7, 3, 29])
    source = utterance(rows(2, 3), keys[places])
    assert np.array_equal(convert(source, utterance(values, keys), k=1), values[places])
    # an encoder that gives a frame less than the other: the shorter one counts
    assert len(convert(utterance(rows(2, 4), keys[places]), utterance(values, keys[:29]), k=1)) == 3


def test_context_and_continuity_prefer_stretches_of_the_reference() -> None:
    keys = rows(0, 60, 4)
    source = utterance(rows(1, 12), keys[20:32] + 1.2 * rows(2, 12, 4))
    reference = utterance(np.arange(60, dtype=np.float32)[:, None] * np.ones((1, 6), np.float32), keys)

    def hits(**options: object) -> int:
        return int((convert(source, reference, k=1, **options)[:, 0] == np.arange(20, 32)).sum())

    assert hits() < 9
    assert hits(continuity=1.0) == 12
    assert hits(context=2) > hits()


def test_detail_adds_what_the_source_differs_in_from_its_own_neighbors() -> None:
    own, reference = rows(0, 80), rows(1, 50)
    plain, moved = (convert(utterance(own), utterance(reference), k=2, detail=share) for share in (0.0, 0.5))
    similar = own_neighbors(own, 2)
    assert moved - plain == pytest.approx(0.5 * (own - own[similar].mean(axis=1)), abs=1e-5)
    assert (np.abs(similar - np.arange(80)[:, None]) > APART).all()
    short = utterance(own[: 2 * APART])  # too short to have frames elsewhere
    assert np.array_equal(convert(short, utterance(reference), detail=1.0), convert(short, utterance(reference)))


def test_own_neighbors_are_the_nearest_that_are_not_near_in_time() -> None:
    keys = rows(3, 600, 3)
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    for place in (0, 255, 256, 599):
        similarity = unit[place].astype(np.float64) @ unit.T.astype(np.float64)
        similarity[max(0, place - APART) : place + APART + 1] = -9
        assert own_neighbors(keys, 3)[place].tolist() == np.argsort(-similarity)[:3].tolist()


def test_of_worlds_parameters_only_envelopes_move() -> None:
    own, reference = rows(0, 80, world.DIM), rows(1, 50, world.DIM)
    found = convert(
        utterance(own, rows(2, 80)), utterance(reference, rows(3, 50)), features="world", detail=1.0, keep=["pitch"]
    )
    plain = convert(utterance(own, rows(2, 80)), utterance(reference, rows(3, 50)), features="world", keep=["pitch"])
    changed = np.abs(found - plain).max(axis=0) > 0
    assert changed[world.ENVELOPE].all() and not changed[world.ENVELOPE.stop :].any()


BASE = {
    "features": {"nano": {}, "world": {"encoder": "world"}, "mel": {"encoder": "log-mel"}},
    "experiments": {"vocoder": {"system": "vocoder", "features": "nano"}},
}


def study(**options: object) -> dict:
    knnvc = {"system": "knnvc", "features": "world", "vocoder": "bundled:world", **options}
    return {**BASE, "experiments": {**BASE["experiments"], "knnvc": knnvc}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"features": "mel", "keep": ["pitch"]},
            r"experiments\.knnvc\.keep: \['pitch'\]: only for features of encoder world",
        ),
        (
            {"features": "mel", "smoothing_ms": 25},
            r"experiments\.knnvc\.smoothing_ms: 25\.0: only for features of encoder world",
        ),
        ({"search": "nowhere"}, r"experiments\.knnvc\.search_keys: 'nowhere' is not defined in `features`"),
        ({"search": {"mel": 0}}, r"experiments\.knnvc\.search\.mel = 0: input should be greater than 0"),
    ],
)
def test_what_cannot_be_searched_or_kept_is_said(options: dict, message: str) -> None:
    with pytest.raises(BowerbirdError, match=message):
        parse_config(study(**options))


def test_a_name_alone_is_a_space_of_weight_one(tmp_path: Path) -> None:
    config = parse_config(study(search="mel"))
    assert config.experiments["knnvc"].key_weights() == {"mel": 1.0}


@pytest.mark.parametrize(
    ("recognizer", "features", "searched"), [("whisper-base", "world", ["keys"]), ("pocketsphinx", "nano", [])]
)
def test_files_are_converted_with_what_is_installed(
    recognizer: str,
    features: str,
    searched: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(files, "installed_recognizer", lambda: recognizer)
    plan = files.plan_system("knnvc", None, "")
    assert plan.read == {"features": [features], "search_keys": searched}
    assert set(plan.features) == {features, *searched}
    assert plan.models["vocoder"].is_dir()
    assert ("pip install 'bowerbird[asr]'" in caplog.text) == (recognizer == "pocketsphinx")
