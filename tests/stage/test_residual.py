"""What a residual holds: probes read from each part what was put into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from speech import Study, make_study

from bowerbird.artifacts.codebook import Codebook
from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.probes import audit_residual
from bowerbird.stages.codebook.residual import probe_residual

CPU = RuntimeConfig(device="cpu")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Features that are one of four far-apart centroids plus a small offset that tells the speaker."""
    made = make_study(tmp_path_factory.mktemp("study"), split="train")
    rng = np.random.default_rng(0)
    centroids = (10 * np.eye(16)[:4]).astype(np.float32)
    offsets = {name: rng.normal(size=16) for name in "abc"}
    with ShardWriter(made.features[0], "float16", (16,)) as writer:
        for utt_id, wave in made.waves.items():
            frames = (len(wave) - 80) // 320
            values = centroids[rng.integers(4, size=frames)] + offsets[utt_id[0]] + 0.3 * rng.normal(size=(frames, 16))
            writer.add(utt_id, values.astype(np.float16))
        writer.close(Identity("fixture", 1, {}), RunRecord())
    book = Codebook(centroids, np.ones(4, np.int64), np.ones(4, np.float32), {})
    (made.root / "codebook" / "k4").mkdir(parents=True)
    book.save(made.root / "codebook" / "k4" / "centroids.safetensors", Identity("fixture", 1, {}))
    return made


def test_the_speaker_is_in_the_residual_and_not_in_the_codes(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    folder = study.root / "codebook" / "k4"
    probe_residual(
        folder / "centroids.safetensors", study.manifest, study.features, study.audio, folder / "residual.parquet", CPU
    )
    table = read_table(folder / "residual.parquet").set_index(["representation", "target"])
    accuracy = table["accuracy"].to_dict()
    assert accuracy["Q", "speaker"] < 0.6
    assert accuracy["R", "speaker"] > 0.9
    assert accuracy["s", "speaker"] == 1.0
    assert accuracy["V", "speaker"] < 0.6  # its mean taken off
    assert ("v", "speaker") not in accuracy
    assert 0 < read_identity(folder / "residual.parquet")["facts"]["residual_energy"] < 0.3
    places = read_table(folder / "pca.parquet")
    assert set(places["speaker"]) == {"a", "b", "c"}
    middles = places[places["representation"] == "s"].groupby("speaker")[["x", "y"]].mean()
    assert min(np.linalg.norm(middles.loc[a] - middles.loc[b]) for a, b in ("ab", "bc", "ac")) > 0.5
    assert audit_residual(study.root) == 0
    printed = capsys.readouterr().out
    assert f"{100 * accuracy['R', 'speaker']:5.1f}" in printed


def test_no_probes_no_table(tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match=r"no codebook/\*/residual\.parquet"):
        audit_residual(tmp_path)
