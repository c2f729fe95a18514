"""The real scorers, offline, over a small study: scored twice, in two processes, the bytes are the same; flat pitch is flat."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from speech import IDENTITY, Study, make_study

from bowerbird.artifacts.audio_files import write_audio
from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.tables import read_identity, read_table, write_table
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.sections.evaluation import FAMILIES, EvaluationConfig
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.config.systems.anchors import AnchorExperiment
from bowerbird.stages.conversion.trials import convert_trials
from bowerbird.stages.evaluation.intelligibility import transcribe_sources
from bowerbird.stages.evaluation.score import score_trials
from bowerbird.stages.evaluation.summarize import summarize_scores

CPU = RuntimeConfig(device="cpu")
OPTIONS = EvaluationConfig(bootstrap=100, quality_trials=1)
ANCHORS = ("ground-truth", "random-speaker")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    made = make_study(tmp_path_factory.mktemp("study"))
    for anchor in ANCHORS:
        convert_trials(
            made.manifest,
            made.trials,
            made.audio,
            made.root / "conversion" / anchor / "trials.parquet",
            AnchorExperiment(anchor=anchor),
            options=ConversionConfig(),
            runtime=CPU,
        )
    return made


def evaluate(root: Path, output: Path) -> None:
    """Everything the stage writes, of the study below ``root``."""
    manifest, trials, audio = root / "manifest.parquet", root / "trials.parquet", [root / "audio/shard-0000.npy"]
    transcripts = output / "transcripts.parquet"
    transcribe_sources(trials, audio, transcripts, OPTIONS, CPU)
    for anchor in ANCHORS:
        for family in FAMILIES:
            source_texts = transcripts if family == "intelligibility" else None
            score_trials(
                root / "conversion" / anchor / "trials.parquet",
                trials,
                manifest,
                audio,
                output / anchor / f"{family}.parquet",
                family,
                OPTIONS,
                CPU,
                source_texts,
            )
    summarize_scores(sorted(output.glob("*/*.parquet")), output / "summary.parquet", OPTIONS)


def test_scored_twice_every_table_has_the_same_bytes(study: Study, tmp_path: Path) -> None:
    evaluate(study.root, tmp_path / "one")
    again = "import sys; from pathlib import Path; import test_evaluation_repeats as t; t.evaluate(*map(Path, sys.argv[1:]))"
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    code = f"import sys; sys.path[:0] = {places!r}; {again}"
    subprocess.run(
        [sys.executable, "-c", code, str(study.root), str(tmp_path / "two")], check=True, capture_output=True
    )
    tables = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.parquet"))
    assert len(tables) == len(ANCHORS) * len(FAMILIES) + 4  # transcripts, summary, differences, cells
    for name in tables:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    rows = read_table(tmp_path / "one" / "ground-truth" / "speaker.parquet")
    assert set(rows.loc[rows["metric"] == "secs", "model"]) == {"resemblyzer"}
    verifiers = {"first": "resemblyzer", "second": "none; scored by one verifier only"}
    for table in ("ground-truth/speaker.parquet", "summary.parquet"):
        assert read_identity(tmp_path / "one" / table)["verifiers"] == verifiers


def tone(wave: np.ndarray, pitch: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A harmonic tone as long as ``wave`` and silent where it is, of the ``pitch`` in Hz at times in seconds."""
    time = np.arange(len(wave)) / 16000
    phase = 2 * np.pi * np.cumsum(pitch(time)) / 16000
    sounding = np.sin(2 * np.pi * 1.5 * time) > -0.7  # the pauses of `speech.voice`
    return np.round(4000 * sum(np.sin(n * phase) / n for n in range(1, 9)) * sounding).astype(np.int16)


def prosody(study: Study, tmp_path: Path, pitch: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Mean of each prosody metric of conversions that say the sources with another pitch, through the stage."""
    table = read_table(study.root / "conversion/ground-truth/trials.parquet")
    made = []
    for trial in table.to_dict("records"):
        write_audio(tmp_path / trial["path"], tone(study.waves[trial["source_utt"]], pitch))
        made.append(file_sha256(tmp_path / trial["path"]))
    write_table(tmp_path / "trials.parquet", table.assign(sha256=made), IDENTITY)
    score_trials(
        tmp_path / "trials.parquet",
        study.trials,
        study.manifest,
        study.audio,
        tmp_path / "scores.parquet",
        "prosody",
        OPTIONS,
        CPU,
    )
    scores = read_table(tmp_path / "scores.parquet")
    assert scores["value"].notna().all()
    return scores.groupby("metric")["value"].mean().to_dict()


def test_a_conversion_with_flattened_f0_scores_nothing(study: Study, tmp_path: Path) -> None:
    flat = prosody(study, tmp_path, lambda time: np.full(len(time), 180.0))
    assert flat["f0_pcc"] == 0.0  # the detector's jitter is no melody
    assert flat["vuv_f1"] > 0.9 and flat["epcc"] > 0.8  # the rest of the prosody is there
    assert flat["f0_pcc_zeros"] > 0.5  # what the column for comparison would have said
    assert flat["f0_rmse_centred"] > 1.0


def test_the_same_melody_in_another_register_scores_all(study: Study, tmp_path: Path) -> None:
    kept = prosody(study, tmp_path, lambda time: 200 * 2 ** (np.sin(2 * np.pi * time) / 6))
    assert kept["f0_pcc"] > 0.95 and kept["f0_rmse_centred"] < 0.5
