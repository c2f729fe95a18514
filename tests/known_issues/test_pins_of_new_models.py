"""`strict` took a recognizer that the study trains, and a spectrogram, for hub ids; and saw no published vocoder."""

from __future__ import annotations

from pathlib import Path

from bowerbird.config.loading import load_config
from bowerbird.config.revisions import unpinned_models

REPOSITORY = Path(__file__).resolve().parents[2]
COMMIT = "c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c"


def study(overlay: str) -> list[Path]:
    return [REPOSITORY / "config.yaml", REPOSITORY / "workflow" / "experiments" / f"{overlay}.yaml"]


def test_what_a_study_trains_or_computes_needs_no_commit() -> None:
    assert list(unpinned_models(load_config(study("takin-ppg")))) == []
    mels = {"features": {"mel-24k": {"encoder": "log-mel-24k", "layer": 0}}}
    assert list(unpinned_models(load_config([REPOSITORY / "config.yaml"], mels))) == []


def test_a_published_vocoder_needs_one() -> None:
    overlay = study("takin-bigvgan-24k")
    (line,) = unpinned_models(load_config(overlay))
    assert line.startswith(
        "experiments.bigvgan-24k.pretrained: nvidia/bigvgan_v2_24khz_100band_256x: a hub id without a commit"
    )
    pinned = {"experiments": {"bigvgan-24k": {"pretrained": f"nvidia/bigvgan_v2_24khz_100band_256x@{COMMIT}"}}}
    assert list(unpinned_models(load_config(overlay, pinned))) == []
