"""Features on disk: the same bytes whatever the batches, threads and kills; counts that agree with the audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bowerbird import features
from bowerbird.artifacts import BowerbirdError, Identity, RunRecord
from bowerbird.config import FeaturesConfig, RuntimeConfig
from bowerbird.features import batches, extract_features
from bowerbird.tables import Shards, ShardWriter, read_identity

OPTIONS = FeaturesConfig(encoder="bundled:nano-encoder", layer=1)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """A shard of twelve utterances of noise, 0.3 to 3 s."""
    rng = np.random.default_rng(0)
    path = tmp_path / "audio" / "shard-0000.npy"
    with ShardWriter(path, "int16", (), length="num_samples") as writer:
        for number in range(12):
            seconds = 0.3 + (number * 7 % 10) * 0.3
            writer.add(f"u{number}", (rng.standard_normal(int(16000 * seconds)) * 2000).astype(np.int16))
        writer.close(Identity("corpus", 1, {}), RunRecord())
    return path


def extract(audio: Path, output: Path, **runtime) -> bytes:
    extract_features(audio, output, OPTIONS, RuntimeConfig(device="cpu", **runtime))
    return output.read_bytes() + output.with_suffix(".parquet").read_bytes()


def test_counts_agree_with_the_audio_and_the_model_is_named(audio: Path, tmp_path: Path) -> None:
    output = tmp_path / "f" / "shard-0000.npy"
    extract(audio, output)
    sound, found = Shards([audio], length="num_samples"), Shards([output])
    assert list(found) == list(sound) and found.row_shape == (256,) and found.arrays[0].dtype == np.float16
    for utt_id, samples in sound.lengths().items():
        assert len(found[utt_id]) == (samples - 80) // 320
    identity = read_identity(output.with_suffix(".parquet"))
    assert identity["params"]["layer"] == 1 and len(identity["params"]["weights_sha256"]) == 64
    assert np.isfinite(np.asarray(found.arrays[0], np.float32)).all()


def test_batches_and_threads_change_no_byte(audio: Path, tmp_path: Path) -> None:
    one = extract(audio, tmp_path / "a" / "shard-0000.npy", batch_s=1, threads=1)
    assert extract(audio, tmp_path / "b" / "shard-0000.npy", batch_s=60, threads=2) == one


def test_a_killed_shard_goes_on_where_it_stopped(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CHUNK_S", 4.0)
    whole = extract(audio, tmp_path / "a" / "shard-0000.npy")
    real, done = features.compute, []

    def die_at_third(extractor, shards, names, runtime):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(names)
        return real(extractor, shards, names, runtime)

    monkeypatch.setattr(features, "compute", die_at_third)
    output = tmp_path / "b" / "shard-0000.npy"
    with pytest.raises(KeyboardInterrupt):
        extract(audio, output)
    assert not output.exists() and len(list(output.parent.glob(".partial-*/part-*.npz"))) == 2
    again = []
    monkeypatch.setattr(features, "compute", lambda e, s, names, r: again.append(names) or real(e, s, names, r))
    assert extract(audio, output) == whole
    assert not {n for names in done for n in names} & {n for names in again for n in names}
    assert not list(output.parent.glob(".partial-*"))


def test_batches_on_a_gpu_are_bounded_and_of_similar_length() -> None:
    import torch

    lengths = {f"u{n}": 16000 * (1 + n % 5) for n in range(40)}
    found = list(batches(list(lengths), lengths, torch.device("cuda"), 12.0))
    assert sorted(n for batch in found for n in batch) == sorted(lengths)
    for batch in found:
        assert len(batch) * max(lengths[n] for n in batch) <= 12 * 16000
        assert max(lengths[n] for n in batch) - min(lengths[n] for n in batch) <= 16000
    assert max(map(len, found)) > 3


def test_a_missing_gpu_is_told(audio: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(BowerbirdError, match="there is no GPU here"):
        extract_features(audio, tmp_path / "shard-0000.npy", OPTIONS, RuntimeConfig(device="cuda"))
