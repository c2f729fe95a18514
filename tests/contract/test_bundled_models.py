"""The models inside the package: their bytes, that they load, and one metric each, on voices that none of them was trained on.

The bounds lie well beside what was measured when the models were exported; `workflow/nano/measure.py` prints the real table.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bowerbird.audio import read_audio
from bowerbird.config.paths import bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.config.systems.palindromic import PalindromicExperiment
from bowerbird.config.systems.qrvc import QrvcExperiment
from bowerbird.config.systems.takin import TakinExperiment
from bowerbird.encoders.extractors import PhoneticEncoder, open_extractor
from bowerbird.encoders.speaker import embed_speakers, load_speaker_encoder, load_speaker_network
from bowerbird.nn.mel import LogMel
from bowerbird.nn.nearest import SearchPool
from bowerbird.systems.base import Utterance
from bowerbird.systems.load import load_system
from bowerbird.systems.palindromic.network import load_converter
from bowerbird.systems.stepback.network import load_autoencoder
from bowerbird.systems.vocoder.synthesis import load_vocoder

ASSETS = Path(bundled("bundled:nano-encoder")).parent
REAL_SPEECH_ONLY = ("nano-key", "nano-world-mel")
MODELS = sorted(path.name for path in ASSETS.glob("nano-*"))
TRIALS = (("rms", "slt"), ("slt", "rms"), ("slt", "kal16"), ("kal16", "slt"))


def model(name: str) -> Path:
    return Path(bundled(f"bundled:{name}"))


@cache
def wave(speaker: str, number: int) -> torch.Tensor:
    return torch.from_numpy(read_audio(ASSETS / "demo" / speaker / f"{speaker}_{number:03d}.ogg"))


@cache
def features(speaker: str, number: int) -> torch.Tensor:
    return open_extractor(FeaturesConfig()).extract(wave(speaker, number)).float()


@cache
def voice(speaker: str) -> torch.Tensor:
    """Embedding of speech that is nobody's reference here."""
    return load_speaker_encoder("resemblyzer").embed([torch.cat([wave(speaker, n) for n in (11, 12)])])[0]


def gain(system) -> float:
    """How much nearer to the target's voice the conversions are than the sources: mean difference of cosines."""
    verifier, gains = load_speaker_encoder("resemblyzer"), []
    for source, target in TRIALS:
        phones = PhoneticEncoder().from_features(features(source, 1))
        spoken = Utterance(source, wave(source, 1), features(source, 1), phones)
        references = [Utterance(f"{target}{n}", wave(target, n), features(target, n)) for n in range(5, 10)]
        with torch.inference_mode():
            made = system.convert(spoken, references, {"trial_id": f"{source}-{target}"}).wave
        gains.append(
            float(verifier.embed([made])[0] @ voice(target)) - float(verifier.embed([spoken.wave])[0] @ voice(target))
        )
    return float(np.mean(gains))


def test_every_file_has_the_bytes_that_are_written_down() -> None:
    lines = (ASSETS / "SHA256SUMS").read_text().splitlines()
    listed = dict(reversed(line.split("  ", 1)) for line in lines)
    files = [path for path in ASSETS.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert {str(path.relative_to(ASSETS)) for path in files} == set(listed), (
        "SHA256SUMS: make it again with workflow/nano/sums"
    )
    for name, digest in listed.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_small_and_has_a_card(name: str) -> None:
    files = {path.name: path for path in model(name).iterdir()}
    assert {"config.json", "model.safetensors", "MODEL_CARD.md"} <= set(files)
    assert all(path.stat().st_size <= 15e6 for path in files.values())
    card = files["MODEL_CARD.md"].read_text()
    assert name in card.splitlines()[0]
    assert "CC BY 4.0" in card  # what it was trained on, and the licenses
    assert "Kokoro-82M" in card or name in REAL_SPEECH_ONLY
    assert "workflow/nano/" in card and "float16" in card


@pytest.mark.slow
def test_the_encoder_finds_the_same_sentence_in_another_voice() -> None:
    """Two speakers say the same sentence: the nearest frame lies where the alignment of the two puts it, by chance it does not."""
    import librosa

    right, chance = [], []
    for first, second in TRIALS:
        a, b = features(first, 2).numpy(), features(second, 2).numpy()
        cosine = F.normalize(torch.from_numpy(a), dim=1) @ F.normalize(torch.from_numpy(b), dim=1).T
        _, path = librosa.sequence.dtw(C=1 - cosine.numpy().astype(np.float64))
        place = {int(i): int(j) for i, j in path}
        aligned = np.array([place[i] for i in range(len(a))])
        right.append(np.mean(np.abs(cosine.argmax(dim=1).numpy() - aligned) <= 3))
        chance.append(np.mean(np.abs(np.random.default_rng(0).integers(len(b), size=len(a)) - aligned) <= 3))
    assert np.mean(right) > 0.5 > 4 * np.mean(chance), (right, chance)


@pytest.mark.slow
def test_the_phonetic_head_names_alike_in_two_voices() -> None:
    """Each row is a distribution; one sentence in two voices has more frames of the same phone than two sentences have."""
    phones = PhoneticEncoder()
    found = {n: [phones.from_features(features(s, n)) for s in ("rms", "slt")] for n in (1, 2)}
    for posteriors in found[1]:
        assert torch.allclose(posteriors.sum(dim=1), torch.ones(len(posteriors)), atol=1e-3)

    def agreement(a: torch.Tensor, b: torch.Tensor) -> float:
        stretched = torch.linspace(0, len(b) - 1, len(a)).round().long()
        return float((a.argmax(dim=1) == b[stretched].argmax(dim=1)).float().mean())

    same = np.mean([agreement(*found[1]), agreement(*found[2])])
    other = np.mean([agreement(found[1][0], found[2][1]), agreement(found[2][0], found[1][1])])
    assert same > other + 0.05, (same, other)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bound"), [("nano-vocoder", 0.75), ("nano-world-mel", 0.75)])
def test_a_vocoder_says_again_what_it_is_given(name: str, bound: float) -> None:
    vocoder, mel = load_vocoder(model(name)), LogMel()
    errors = []
    for speaker in ("rms", "slt"):
        given = mel(wave(speaker, 3)[None])[0] if name.endswith("mel") else features(speaker, 3)
        made = mel(vocoder.vocode(given)[None])[0]
        known = mel(wave(speaker, 3)[None])[0]
        length = min(len(made), len(known))
        errors.append(float(F.l1_loss(made[:length], known[:length])))
    assert np.mean(errors) < bound, errors


@pytest.mark.slow
def test_the_converter_knows_the_way_back_and_its_control_does_not() -> None:
    """A's frames, retrieved from B's speech, come nearer to A's own; the control was trained on random frames."""
    errors: dict[str, list[float]] = {"nano-converter": [], "nano-converter-random": [], "retrieved": []}
    for source, donor in TRIALS:
        own = features(source, 1)
        pool = torch.cat([features(donor, n) for n in range(5, 10)])
        retrieved = pool[torch.from_numpy(SearchPool(pool.numpy()).nearest(own.numpy(), 4)[0])].mean(dim=1)
        prompt = torch.cat([features(source, n) for n in range(5, 10)])[:200]
        errors["retrieved"].append(float(F.l1_loss(retrieved, own)))
        for name in ("nano-converter", "nano-converter-random"):
            with torch.inference_mode():
                back = load_converter(model(name))(retrieved[None], prompt[None], torch.tensor([len(prompt)]))[0]
            errors[name].append(float(F.l1_loss(back, own)))
    ours, control, before = (np.mean(errors[name]) for name in ("nano-converter", "nano-converter-random", "retrieved"))
    assert ours < before and ours < control, errors


@pytest.mark.slow
def test_conversions_move_to_the_target() -> None:
    vocoder = model("nano-vocoder")
    gains = {
        "knnvc": gain(load_system(KnnvcExperiment(), {"vocoder": vocoder})),
        "palindromic": gain(
            load_system(
                PalindromicExperiment(synthesis="stage1"), {"converter": model("nano-converter"), "vocoder": vocoder}
            )
        ),
        "qrvc": gain(load_system(QrvcExperiment(), {"resynthesis": model("nano-qrvc")})),
        "qrvc-plain": gain(load_system(QrvcExperiment(), {"resynthesis": model("nano-qrvc-plain")})),
    }
    assert gains["knnvc"] > 0.1, gains
    assert min(gains.values()) > 0, gains


@pytest.mark.slow
def test_takin_moves_to_the_target() -> None:
    vocoder = model("nano-world-mel")
    experiment = TakinExperiment(content_training="joint", speaker_encoder="ge2e", sampling_steps=4)
    for name in ("nano-takin", "nano-takin-no-speaker-embedding"):
        assert gain(load_system(experiment, {"flow": model(name), "vocoder": vocoder})) > 0, name


@pytest.mark.slow
def test_stepback_rebuilds_a_spectrum_better_than_its_mean() -> None:
    autoencoder, _ = load_autoencoder(model("nano-stepback-preparation"))
    mel, verifier = LogMel(), load_speaker_network("ge2e")
    for speaker in ("rms", "slt"):
        x = mel(wave(speaker, 3)[None])
        with torch.inference_mode():
            made = autoencoder(x, embed_speakers(verifier, [wave(speaker, 5)]))
        assert F.l1_loss(made, x) < 0.7 * F.l1_loss(x.mean(dim=1, keepdim=True).expand_as(x), x)
