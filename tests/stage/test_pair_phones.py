"""Agreement of retrieved frames with the query's phone: known phones in, exact agreement out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from speech import Study, make_study

from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.config.paths import bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.encoders.extractors import PhoneticEncoder
from bowerbird.errors import BowerbirdError
from bowerbird.stages.features.extract import extract_features
from bowerbird.stages.pairs.frame_codes import phone_codes
from bowerbird.stages.pairs.quality import quality_table, summarize_pairs
from bowerbird.stages.pairs.search import search_pairs
from bowerbird.stages.pairs.speech import PairableSpeech

CPU = RuntimeConfig(device="cpu")
PHONES = (3, 7, 20, 31)  # of the frames: only these, each as the direction that the head looks for


def write_features(study: Study, **params: object) -> None:
    """Frames that are one of four phones, as clear as can be; ``params`` differ in their record from the head's own layer."""
    head = load_file(Path(bundled("bundled:nano-phones")) / "model.safetensors")["weight"]
    clear = head[list(PHONES)] - head.mean(axis=0)
    rng = np.random.default_rng(0)
    with ShardWriter(study.features[0], "float16", (head.shape[1],)) as writer:
        for utt_id, wave in study.waves.items():
            said = rng.integers(len(PHONES), size=(len(wave) - 80) // 320)
            writer.add(utt_id, (30 * clear[said]).astype(np.float16))
        own = PhoneticEncoder("bundled:nano-phones").extractor.identity_params()
        writer.close(Identity("features", 1, {**own, **params}), RunRecord())


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = make_study(tmp_path, split="train")
    write_features(made)
    return made


def quality(study: Study, method: str, **inputs) -> Path:
    folder = study.root / "pairs" / method
    pairs = [folder / "shard-0000.npy"]
    search_pairs(study.manifest, study.features, pairs[0], 0, PairsConfig(k=2, min_pool_s=0.1, method=method), CPU)
    output = folder / "quality.parquet"
    summarize_pairs(study.manifest, pairs, study.features, output, phonetic="bundled:nano-phones", **inputs)
    return output


def test_phones_of_neighbors_agree_and_those_of_random_frames_by_chance(study: Study) -> None:
    nearest, random = (read_identity(quality(study, method))["facts"] for method in ("nearest", "random"))
    assert nearest["phone_agreement"] == 1.0
    assert nearest["phone_agreement_random"] == pytest.approx(1 / len(PHONES), abs=0.05)
    assert random["phone_agreement"] == pytest.approx(random["phone_agreement_random"], abs=0.06)


@pytest.mark.parametrize("params", [{"weights_sha256": "another"}, {"layer": 2}, {"padding": "center"}])
def test_phones_of_other_features_are_read_from_audio(study: Study, params: dict[str, object]) -> None:
    write_features(study, **params)
    with pytest.raises(
        BowerbirdError, match=r"--phonetic: bundled:nano-phones: reads bundled:nano-encoder, layer 3.*--audio"
    ):
        quality(study, "nearest")
    table = read_table(quality(study, "nearest", audio=study.audio))
    assert table["phone_agreement"].between(0, 1).all()  # tones, not speech: only that there are phones
    assert "phone" in quality_table(study.root / "pairs" / "nearest" / "quality.parquet")


def test_phones_of_features_and_of_audio_are_the_same(study: Study, tmp_path: Path) -> None:
    own, other = tmp_path / "own" / "shard-0000.npy", tmp_path / "other" / "shard-0000.npy"
    extract_features(study.audio[0], own, FeaturesConfig(), CPU)
    extract_features(study.audio[0], other, FeaturesConfig(layer=2), CPU)
    phones = [
        phone_codes("bundled:nano-phones", PairableSpeech(study.manifest, [path]), study.audio)[0]
        for path in (own, other)
    ]
    assert len(set(phones[0])) > 1 and np.array_equal(*phones)
