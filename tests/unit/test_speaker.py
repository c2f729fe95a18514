"""GE2E and ECAPA-TDNN as speaker encoders: embeddings are those of the packages that the weights come from."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bowerbird.artifacts.files import file_sha256
from bowerbird.encoders.checkpoint import ModelIdentity, packaged_file
from bowerbird.encoders.speaker import (
    embed_speakers,
    load_ecapa,
    load_speaker_encoder,
    load_speaker_network,
    raise_volume,
)
from bowerbird.encoders.verifiers import load_verifier
from bowerbird.errors import BowerbirdError
from bowerbird.nn.ecapa import EcapaTdnn


def waves(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator) * 0.1 for n in lengths]


@pytest.mark.slow
def test_embeddings_are_resemblyzers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our GE2E gives what the package's own encoder gives, for short, partial and long speech, quiet and loud."""
    monkeypatch.setitem(sys.modules, "webrtcvad", types.ModuleType("webrtcvad"))
    resemblyzer = pytest.importorskip("resemblyzer")
    theirs = resemblyzer.VoiceEncoder("cpu", verbose=False)
    ours = load_speaker_encoder("resemblyzer")
    for seconds, gain in ((0.7, 1.0), (1.6, 0.01), (3.3, 0.3), (7.9, 0.1)):
        wave = (waves(int(seconds * 16000))[0] * gain).numpy()
        normal = resemblyzer.audio.normalize_volume(wave, -30, increase_only=True)
        np.testing.assert_allclose(ours.embed([wave])[0], theirs.embed_utterance(normal), atol=2e-4)


def test_the_speaker_embedding_has_a_gradient() -> None:
    wave = waves(32000)[0].requires_grad_()
    load_speaker_encoder("resemblyzer").model.embed(wave).sum().backward()
    assert wave.grad is not None and float(wave.grad.abs().sum()) > 0
    silence = torch.zeros(16000, requires_grad=True)
    load_speaker_encoder("resemblyzer").model.embed(silence).sum().backward()
    assert silence.grad.isfinite().all()


def test_mel_spectrograms_are_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    wave = waves(16000)[0]
    expected = librosa.feature.melspectrogram(y=wave.numpy(), sr=16000, n_fft=400, hop_length=160, n_mels=40)
    found = load_speaker_encoder("resemblyzer").model.mel(wave).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_quiet_speech_is_raised_and_loud_speech_stays() -> None:
    wave = waves(16000)[0]
    level = 20 * torch.log10(raise_volume(wave * 0.01).square().mean().sqrt())
    assert float(level) == pytest.approx(-30, abs=1e-3)
    torch.testing.assert_close(raise_volume(wave), wave)


def test_embeddings_are_unit_vectors_and_of_nothing_there_is_none() -> None:
    verifier = load_speaker_encoder("resemblyzer")
    embeddings = verifier.embed([w.numpy() for w in waves(8000, 30000)])
    assert embeddings.shape == (2, verifier.dim) and embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert verifier.embed([]).shape == (0, verifier.dim)
    with pytest.raises(BowerbirdError, match="without samples"):
        verifier.embed([np.zeros(0, np.float32)])


@pytest.fixture(scope="module")
def ecapa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights under the names of speechbrain's file."""
    folder = tmp_path_factory.mktemp("ecapa")
    torch.manual_seed(0)
    published = EcapaTdnn().state_dict().items()
    state = {".wrapped.".join(name.rsplit(".", 1)): tensor for name, tensor in published}
    torch.save(state, folder / "embedding_model.ckpt")
    yield folder
    (folder / "embedding_model.ckpt").unlink()  # 83 MB


def test_the_same_weights_are_loaded_once_and_named_with_their_digest(ecapa: Path) -> None:
    encoder = load_speaker_encoder(str(ecapa), "features.voice.encoder")
    assert load_speaker_encoder(str(ecapa), "evaluation.verifier") is encoder is load_verifier(str(ecapa))
    assert encoder.describe() == ModelIdentity("ecapa-tdnn", file_sha256(ecapa / "embedding_model.ckpt"))
    weights = packaged_file("resemblyzer", "pretrained.pt", "evaluation.verifier")
    assert load_verifier("resemblyzer") is load_speaker_encoder("ge2e")
    assert load_speaker_encoder("ge2e").describe() == ModelIdentity("resemblyzer", file_sha256(weights))


def test_networks_of_losses_embed_as_the_encoders_do(ecapa: Path) -> None:
    """And whoever builds a model after them draws the same random numbers as without them."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    networks = {spec: load_speaker_network(spec, "converter.speaker_encoder") for spec in ("ge2e", str(ecapa))}
    assert torch.equal(torch.rand(3), expected)
    several = waves(20000, 40000)
    for spec, network in networks.items():
        embeddings = embed_speakers(network, several)
        np.testing.assert_allclose(embeddings.numpy(), load_speaker_encoder(spec).embed(several), atol=1e-5)
        embedding, maps = network.embed_with_maps(several[0][None])
        direction = torch.nn.functional.normalize(embedding, dim=1)
        torch.testing.assert_close(direction, embeddings[:1], atol=1e-5, rtol=0)
        assert all(len(hidden) == 1 and hidden.ndim == 3 for hidden in maps)
    assert load_ecapa(str(ecapa)) is not networks[str(ecapa)]  # a loss may move its network to another device
