"""Every shipped overlay is a valid study over the base it is made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bowerbird.config.loading import load_config
from bowerbird.config.study import Config

ROOT = Path(__file__).resolve().parents[2]
PRESETS, STUDIES = (sorted((ROOT / "workflow" / folder).glob("*.yaml")) for folder in ("presets", "experiments"))
LISTS = {
    "libri-full": "librispeech",
    "libri-small": "librispeech",
    "libritts-u2u": "libritts",
    "vctk-s2s": "vctk",
    "vctk-u2u": "vctk",
    "mls-x": "",
    "mini": "",
}  # named lists of trials: over the preset of a corpus
LARGE_ONLY = {"qrvc-layer", "qrvc-encoder"}  # they vary the full-size study


def study(*overlays: Path) -> Config:
    return load_config([ROOT / "config.yaml", *overlays])


@pytest.mark.parametrize("preset", [p for p in PRESETS if p.stem not in {"wavlm-large", *LISTS}], ids=lambda p: p.stem)
def test_presets(preset: Path) -> None:
    assert study(preset).run == preset.stem


@pytest.mark.parametrize("name", LISTS)
def test_named_lists_change_the_trials_and_nothing_that_is_trained(name: str) -> None:
    folder = ROOT / "workflow" / "presets"
    base = [folder / f"{LISTS[name]}.yaml"] if LISTS[name] else []
    before, after = study(*base), study(*base, folder / f"{name}.yaml")
    assert after.trials != before.trials and after.trials.conditions == sorted(after.trials.conditions)
    for section in ("run", "features", "codebook", "pairs", "experiments"):
        assert getattr(after, section) == getattr(before, section), section


@pytest.mark.parametrize("corpus", ["librispeech", "libritts", "vctk"])
def test_full_size_over_each_corpus_is_of_the_papers_sizes(corpus: str) -> None:
    folder = ROOT / "workflow" / "presets"
    config = study(folder / f"{corpus}.yaml", folder / "wavlm-large.yaml")
    assert config.run == corpus
    assert set(config.features) == {"wavlm-l6", "mel", "phones", "voice"}
    converter = config.experiments["palindromic"].converter
    assert (converter.layers, converter.heads, converter.width, converter.feedforward) == (6, 16, 1024, 4096)
    assert config.experiments["qrvc"].resynthesis.generator == "hifigan-1024"
    flow, content = config.experiments["takin"].flow, config.experiments["takin"].content
    assert (content.codes, content.code_dim, content.vq_weight) == (8200, 1024, 0.01)
    assert (flow.context_layers, flow.heads, flow.context_width, flow.memory_layers) == (6, 8, 1024, 4)
    assert (flow.layers, flow.blocks, flow.width) == (10, 3, 1280)
    assert config.experiments["bigvgan"].vocoder.generator == "bigvgan-base"
    assert not any("nano" in str(experiment.model_dump()) for experiment in config.experiments.values())


@pytest.mark.parametrize("overlay", STUDIES, ids=lambda p: p.stem)
def test_studies_add_experiments_and_leave_those_that_are_there(overlay: Path) -> None:
    folder = ROOT / "workflow" / "presets"
    base = [folder / "librispeech.yaml", folder / "wavlm-large.yaml"] if overlay.stem in LARGE_ONLY else []
    before, after = study(*base).experiments, study(*base, overlay).experiments
    assert after.keys() > before.keys() or overlay.stem == "palindromic-pairs"
    assert all(after[name] == experiment for name, experiment in before.items())


def test_across_languages_every_target_speaks_another_language() -> None:
    folder = ROOT / "workflow"
    config = study(
        folder / "presets" / "mls-x.yaml",
        folder / "presets" / "wavlm-large.yaml",
        folder / "experiments" / "takin-languages.yaml",
    )
    assert config.trials.cross_language == "other" and config.corpus.kind == "mls"
    assert not config.experiments["takin-no-ppg"].phones and not config.experiments["takin-no-ssl"].flow.ssl
