"""Features on disk: the same bytes whatever the batches, threads and kills; counts that agree with the audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import Shards, ShardWriter
from bowerbird.artifacts.tables import read_identity
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.encoders.selfsupervised import SelfSupervisedEncoder
from bowerbird.errors import BowerbirdError
from bowerbird.stages.features import extract as features
from bowerbird.stages.features.extract import extract_features

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
    import torch

    one = extract(audio, tmp_path / "a" / "shard-0000.npy", batch_s=1, threads=1)
    torch.set_num_threads(2)  # as the command line sets it for --threads 2
    try:
        assert extract(audio, tmp_path / "b" / "shard-0000.npy", batch_s=60, threads=2) == one
    finally:
        torch.set_num_threads(1)


def test_a_killed_shard_goes_on_where_it_stopped(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "PART_S", 4.0)
    whole = extract(audio, tmp_path / "a" / "shard-0000.npy")
    real, done = features.extract_part, []

    def die_at_third(extractor, shards, names, runtime):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(names)
        return real(extractor, shards, names, runtime)

    monkeypatch.setattr(features, "extract_part", die_at_third)
    output = tmp_path / "b" / "shard-0000.npy"
    with pytest.raises(KeyboardInterrupt):
        extract(audio, output)
    assert not output.exists() and len(list(output.parent.glob(".partial-*/part-*.npz"))) == 2
    again = []
    monkeypatch.setattr(features, "extract_part", lambda e, s, names, r: again.append(names) or real(e, s, names, r))
    assert extract(audio, output) == whole
    assert not {n for names in done for n in names} & {n for names in again for n in names}
    assert not list(output.parent.glob(".partial-*"))


def test_a_damaged_part_is_made_again(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "PART_S", 4.0)
    whole = extract(audio, tmp_path / "a" / "shard-0000.npy")
    output = tmp_path / "b" / "shard-0000.npy"
    real = features.ShardWriter.close

    def die_before_the_end(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(features.ShardWriter, "close", lambda *_, **__: die_before_the_end())
    with pytest.raises(KeyboardInterrupt):
        extract(audio, output)
    monkeypatch.setattr(features.ShardWriter, "close", real)
    first, second, third, *_ = sorted(output.parent.glob(".partial-*/part-*.npz"))
    first.write_bytes(first.read_bytes()[:1000])
    second.write_bytes(b"")
    third.write_bytes(sorted(output.parent.glob(".partial-*/part-*.npz"))[-1].read_bytes())  # of other utterances
    assert extract(audio, output) == whole


def test_parts_of_parameters_that_were_given_up_are_removed(audio: Path, tmp_path: Path) -> None:
    stale = tmp_path / "f/.partial-shard-0000-0123456789abcdef"
    other = tmp_path / "f/.partial-shard-0001-0123456789abcdef"
    for folder in (stale, other):
        folder.mkdir(parents=True)
        (folder / "part-00000.npz").write_bytes(b"old")
    extract(audio, tmp_path / "f" / "shard-0000.npy")
    assert not stale.exists() and other.exists()


def test_what_changes_the_bytes_is_in_the_identity_and_nothing_else(audio: Path, tmp_path: Path) -> None:
    """The same model from another folder gives the same files, and no path is in them."""
    import shutil

    from bowerbird.config.paths import bundled

    outputs = []
    for place in ("here", "there"):
        folder = tmp_path / place / "encoder"
        shutil.copytree(bundled("bundled:nano-encoder"), folder)
        output = tmp_path / place / "shard-0000.npy"
        extract_features(
            audio, output, OPTIONS.model_copy(update={"encoder": str(folder)}), RuntimeConfig(device="cpu")
        )
        outputs.append(output.read_bytes() + output.with_suffix(".parquet").read_bytes())
    assert outputs[0] == outputs[1] and str(tmp_path).encode() not in outputs[0]


def test_an_utterance_that_cannot_be_stored_is_named(audio: Path, tmp_path: Path, monkeypatch) -> None:
    def loud(self, waves):
        return [t * (1e9 if len(w) == 4800 else 1.0) for t, w in zip(real(self, waves), waves)]

    real = SelfSupervisedEncoder.forward
    monkeypatch.setattr(SelfSupervisedEncoder, "forward", loud)
    with pytest.raises(BowerbirdError, match=r"^u0: features beyond float16 .*features\.f\.layer"):
        extract(audio, tmp_path / "f" / "shard-0000.npy")
    assert not (tmp_path / "f" / "shard-0000.npy").exists()


def test_a_missing_gpu_is_told(audio: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(BowerbirdError, match="no CUDA device here"):
        extract_features(audio, tmp_path / "shard-0000.npy", OPTIONS, RuntimeConfig(device="cuda"))
