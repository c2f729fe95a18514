"""Verifiers and opinion models from local folders: read, fed and recorded as they say, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hub_cache import add_to_cache, use_cache
from onnx_files import write_embedder, write_opinion
from tiny_xvector import write_xvector

from bowerbird.artifacts.files import file_sha256
from bowerbird.encoders.verifiers import ExportedVerifier, XVectorVerifier, load_verifier
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.opinion import OpinionScorer

WAVE = np.sin(np.arange(16000) / 9).astype(np.float32) * 0.5


@pytest.fixture(scope="module")
def xvector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny WavLM with an x-vector head and random weights, saved as the hub's models are."""
    folder = tmp_path_factory.mktemp("models") / "wavlm-sv"
    write_xvector(folder)
    return folder


def test_a_wavlm_xvector_folder_embeds(xvector: Path) -> None:
    verifier = load_verifier(str(xvector))
    assert isinstance(verifier, XVectorVerifier)
    embeddings = verifier.embed([WAVE, WAVE[:8000], WAVE])
    assert embeddings.shape == (3, 10)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (embeddings[0] == embeddings[2]).all() and not np.allclose(embeddings[0], embeddings[1])
    alone = verifier.embed([WAVE])
    assert (alone[0] == embeddings[0]).all()  # the company of a wave does not change its embedding
    identity = verifier.describe()
    assert identity.model == "wavlm-xvector wavlm-sv" and len(identity.weights_sha256) == 64


def test_the_published_kind_of_weights_is_read_as_well(xvector: Path, tmp_path: Path) -> None:
    """microsoft/wavlm-base-plus-sv has pytorch_model.bin and no safetensors."""
    import shutil

    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "wavlm-sv"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copyfile(xvector / name, folder / name)
    torch.save(load_file(xvector / "model.safetensors"), folder / "pytorch_model.bin")
    one, other = load_verifier(str(folder)), load_verifier(str(xvector))
    assert (one.embed([WAVE]) == other.embed([WAVE])).all() and one.describe() == other.describe()

    headless = tmp_path / "headless"
    shutil.copytree(folder, headless)
    kept = {k: v for k, v in load_file(xvector / "model.safetensors").items() if not k.startswith("feature_extractor")}
    torch.save(kept, headless / "pytorch_model.bin")
    with pytest.raises(BowerbirdError, match=r"lack 2 tensors, first feature_extractor.*would be random"):
        load_verifier(str(headless))

    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    trap = tmp_path / "trap"
    shutil.copytree(folder, trap)
    torch.save({"tdnn.0.kernel.weight": Trap()}, trap / "pytorch_model.bin")
    with pytest.raises(BowerbirdError, match=r"^evaluation\.verifier: trap: .*pytorch_model\.bin cannot be loaded"):
        load_verifier(str(trap))
    assert not (tmp_path / "ran").exists()


def test_a_hub_id_of_an_xvector_model_is_known_by_its_configuration(
    xvector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_to_cache(use_cache(tmp_path, monkeypatch), "somebody/wavlm-sv", xvector)
    verifier, local = load_verifier("somebody/wavlm-sv"), load_verifier(str(xvector))
    assert isinstance(verifier, XVectorVerifier) and verifier.describe() == local.describe()
    with pytest.raises(BowerbirdError, match=r"^evaluation\.verifier: somebody/else: .*embedding_model\.safetensors"):
        load_verifier("somebody/else")  # nothing says that it is one: taken for ECAPA-TDNN


def test_a_wave_shorter_than_its_layers_reach_is_repeated(xvector: Path) -> None:
    verifier = load_verifier(str(xvector))
    assert np.isfinite(verifier.embed([WAVE[:400]])).all()
    with pytest.raises(BowerbirdError, match="without samples"):
        verifier.embed([WAVE[:0]])


def test_an_exported_verifier_embeds(tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "redimnet")
    verifier = load_verifier(str(folder))
    assert isinstance(verifier, ExportedVerifier)
    expected = np.array([WAVE.max(), WAVE.min(), WAVE.mean()])
    assert verifier.embed([WAVE])[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
    assert verifier.describe().model == "exported redimnet"
    assert verifier.describe().weights_sha256 == file_sha256(folder / "model.onnx")


def test_an_exported_opinion_is_the_files_own(tmp_path: Path) -> None:
    scorer = OpinionScorer("utmos", str(write_opinion(tmp_path / "utmos22")))
    assert scorer.score(WAVE) == {"utmos": pytest.approx(float(np.abs(WAVE).mean()), rel=1e-5)}
    assert scorer.identity.model == "utmos utmos22"
    vector = OpinionScorer("nisqa", str(write_embedder(tmp_path / "vector")))
    with pytest.raises(ValueError, match="gives 3 values"):
        vector.score(WAVE)


def test_what_cannot_be_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match=r"evaluation\.opinions\.utmos: .*looked for model\.onnx, utmos22_strong"):
        OpinionScorer("utmos", str(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(BowerbirdError, match=r"evaluation\.verifier: .*not a model that can be run"):
        load_verifier(str(tmp_path))
    with pytest.raises(BowerbirdError, match="must take one float wave"):
        load_verifier(str(write_embedder(tmp_path / "two", inputs=2)))
    with pytest.raises(BowerbirdError, match=r"takes 96000 samples and no other number; export it with a free length"):
        load_verifier(str(write_embedder(tmp_path / "fixed", samples=96000)))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"architectures": ["WavLMForXVector"], "model_type": "wavlm"}')
    with pytest.raises(BowerbirdError, match="not a WavLM x-vector model"):
        load_verifier(str(broken))
