"""One changed parameter re-plans exactly its stage and what follows; housekeeping re-plans nothing."""

from __future__ import annotations

import pytest
from published_fixture import write_published

SCORES = {"summarize_scores", "write_report"}
CONVERTED = {"convert_trials", "score_trials", *SCORES}
FROM_FEATURES = {
    "extract_features",
    "fit_codebook",
    "assign_units",
    "summarize_units",
    "probe_residual",
    "search_pairs",
    "summarize_pairs",
    "train_stage",
    *CONVERTED,
}
LISTED = {"list_trials", "transcribe_sources"}

CHANGES = {
    "corpus: a limit": ({"corpus": {"min_duration_s": 0.6}}, {"list_corpus", "store_audio", *LISTED, *FROM_FEATURES}),
    "corpus: trimming": ({"corpus": {"trim_silence": True}}, {"store_audio", "transcribe_sources", *FROM_FEATURES}),
    "trials": ({"trials": {"seed": 1}}, {*LISTED, *CONVERTED}),
    "features": ({"features": {"nano": {"layer": 2}}}, FROM_FEATURES),
    "codebook: fit": (
        {"codebook": {"k32": {"num_codes": 16}}},
        {
            "fit_codebook",
            "assign_units",
            "summarize_units",
            "probe_residual",
            "summarize_pairs",
            "train_stage",
            *CONVERTED,
        },
    ),
    "codebook: look-up": (
        {"codebook": {"k32": {"assignment": "euclidean"}}},
        {"assign_units", "summarize_units", "probe_residual", "summarize_pairs", "write_report"},
    ),
    "pairs": ({"pairs": {"knn4": {"k": 2}}}, {"search_pairs", "summarize_pairs", "train_stage", *CONVERTED}),
    "pairs: key space": (
        {"pairs": {"knn4": {"search": "phones"}}},
        {"search_pairs", "summarize_pairs", "train_stage", *CONVERTED},
    ),
    "training: Palindromic's converter": (
        {"experiments": {"palindromic": {"converter": {"learning_rate": 5.0e-4}}}},
        {"train_stage", *CONVERTED},
    ),
    "training: Palindromic's revocoder": (
        {"experiments": {"palindromic": {"revocoder": {"learning_rate": 5.0e-4}}}},
        {"train_stage", *CONVERTED},
    ),
    "training: QR-VC": (
        {"experiments": {"qrvc": {"resynthesis": {"variation_dim": 4}}}},
        {"train_stage", "probe_residual", *CONVERTED},
    ),
    "training: Stepback's preparation": (
        {"experiments": {"stepback": {"preparation": {"learning_rate": 5.0e-4}}}},
        {"train_stage", *CONVERTED},
    ),
    "training: Stepback's dual flow": (
        {"experiments": {"stepback": {"dual_flow": {"margin": 0.5}}}},
        {"train_stage", *CONVERTED},
    ),
    "training: vocoder": (
        {"experiments": {"vocoder": {"vocoder": {"learning_rate": 3.0e-4}}}},
        {"train_stage", *CONVERTED},
    ),
    "training: Takin-VC's content encoder": (
        {"experiments": {"takin": {"content": {"learning_rate": 5.0e-4}}}},
        {"train_stage", *CONVERTED},
    ),
    "training: Takin-VC's flow": (
        {"experiments": {"takin": {"flow": {"learning_rate": 5.0e-4}}}},
        {"train_stage", *CONVERTED},
    ),
    "conversion: Takin-VC's sampler": ({"experiments": {"takin": {"sampling_steps": 3}}}, CONVERTED),
    "conversion: one system": ({"experiments": {"knnvc": {"k": 3}}}, CONVERTED),
    "conversion: key space": ({"experiments": {"knnvc": {"search": "phones"}}}, CONVERTED),
    "conversion: vocoder": ({"experiments": {"knnvc": {"vocoder": "bundled:nano-vocoder"}}}, CONVERTED),
    "conversion: all": ({"conversion": {"loudness": "none"}}, CONVERTED),
    "evaluation: one family": ({"evaluation": {"normalizer": "whisper-basic"}}, {"score_trials", *SCORES}),
    "evaluation: recognizer": (
        {"evaluation": {"asr": "whisper-base"}},
        {"transcribe_sources", "score_trials", *SCORES},
    ),
    "evaluation: intervals": ({"evaluation": {"bootstrap": 200}}, SCORES),
    "report": ({"report": {"players": 3}}, {"write_report"}),
}

NUMBERS = {
    "codebook: fit": {"fit_codebook": 1, "assign_units": 2, "train_stage": 1, "convert_trials": 1},  # QR-VC's
    "features": {"extract_features": 2, "convert_trials": 5},  # not the ground truth: it reads no features
    "pairs: key space": {"extract_features": 0, "train_stage": 2, "convert_trials": 1},
    "pairs": {"train_stage": 2, "convert_trials": 1},  # Palindromic's converter and revocoder
    "training: Palindromic's converter": {"train_stage": 2, "convert_trials": 1, "score_trials": 3},
    "training: Palindromic's revocoder": {"train_stage": 1, "convert_trials": 1, "score_trials": 3},
    "training: QR-VC": {"train_stage": 1, "convert_trials": 1, "score_trials": 3},
    "training: Stepback's preparation": {"train_stage": 3, "convert_trials": 1, "score_trials": 3},
    "training: Stepback's dual flow": {"train_stage": 1, "convert_trials": 1, "score_trials": 3},
    "training: Takin-VC's content encoder": {"train_stage": 2, "convert_trials": 1, "score_trials": 3},
    "training: Takin-VC's flow": {"train_stage": 1, "convert_trials": 1, "score_trials": 3},
    "conversion: Takin-VC's sampler": {"convert_trials": 1, "score_trials": 3},
    "training: vocoder": {"train_stage": 3, "convert_trials": 3},  # the converter learns through it
    "conversion: one system": {"convert_trials": 1, "score_trials": 3},
    "conversion: key space": {"convert_trials": 1, "score_trials": 3},
    "conversion: vocoder": {"convert_trials": 1, "score_trials": 3},
    "conversion: all": {"convert_trials": 7, "score_trials": 21},
    "evaluation: recognizer": {"transcribe_sources": 1, "score_trials": 7},
    "evaluation: one family": {"score_trials": 7},  # intelligibility of seven experiments, no other family
}


@pytest.mark.slow
def test_a_finished_run_has_nothing_to_do(finished) -> None:
    assert not finished.plan({}).jobs


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_replans_its_stage_and_what_follows(finished, name: str) -> None:
    values, expected = CHANGES[name]
    planned = finished.plan(values).rules
    assert set(planned) == expected
    for rule, count in NUMBERS.get(name, {}).items():
        assert planned[rule] == count, f"{rule}: {planned[rule]} jobs"


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"runtime": {"threads": 2, "batch_s": 7, "device": "cpu", "workers": 1}},
        {"training": {"checkpoint_every": 3, "keep_checkpoints": 5, "log_every": 2}},
    ],
    ids=["threads, batch size, device, workers", "checkpoints and logging"],
)
def test_housekeeping_replans_nothing(finished, values: dict) -> None:
    assert not finished.plan(values).jobs


@pytest.mark.slow
def test_a_wrong_key_is_one_line_before_any_job(finished) -> None:
    path = finished.overlay({"codebok": {}})
    done = finished.run("--dry-run", "--configfile", str(path))
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "codebok: unknown key; did you mean 'codebook'?" in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_a_trained_recognizer_comes_before_its_features_and_these_before_what_reads_them(workspace) -> None:
    values = {
        "features": {"ppg": {"kind": "phonetic", "encoder": "trained:takin-ppg"}},
        "experiments": {"takin-ppg": {"like": "takin", "recognizer": "trained", "phones": "ppg"}},
    }
    found = workspace.plan(values, "results/tiny/conversion/takin-ppg/trials.parquet")
    model, made = "results/tiny/training/takin-ppg/ppg/model.safetensors", "results/tiny/features/ppg/shard-0000.npy"
    (recognizer,) = found.of("train_stage", experiment="takin-ppg", stage="ppg")
    assert "--features" not in recognizer.command and "--audio results/tiny/corpus/audio/" in recognizer.command
    extraction = found.of("extract_features", features="ppg")
    assert len(extraction) == 2 and all(model in job.inputs for job in extraction)
    assert all("--encoder results/tiny/training/takin-ppg/ppg" in job.command for job in extraction)
    training = [job for job in found.of("train_stage", experiment="takin-ppg") if job != recognizer]
    readers = [*training, *found.of("convert_trials")]
    assert len(readers) == 3 and all(made in job.inputs for job in readers)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "hub"])
def test_published_weights_are_an_input_or_named_for_the_hub(workspace, place: str) -> None:
    folder = write_published(workspace.root / "published")
    name = str(folder) if place == "folder" else "hub:nvidia/bigvgan_24khz_100band"
    values = {
        "features": {"mel-24k": {"encoder": "log-mel-24k", "layer": 0}},
        "experiments": {
            "copy": {"system": "vocoder", "features": "mel-24k", "pretrained": name},
            "takin-24k": {"like": "takin", "mels": "mel-24k", "vocoder": "copy", "reuse": {"content": "takin"}},
        },
    }
    targets = [f"results/tiny/conversion/{name}/trials.parquet" for name in ("copy", "takin-24k")]
    found = workspace.plan(values, *targets)
    assert len(found.of("convert_trials")) == 2
    for job in found.of("convert_trials"):
        assert f"vocoder={name}" in job.command
        assert (str(folder / "bigvgan_generator.pt") in job.inputs) == (place == "folder")
    assert not found.of("train_stage", experiment="copy")
