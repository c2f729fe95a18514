"""A small fake run, written with the schemas of the stages, so the report can be tested without the chain."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from speech import TEXTS, voice

from bowerbird.artifacts.audio_files import write_audio
from bowerbird.artifacts.files import write_json, write_text
from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import CONVERSIONS, MANIFEST, REJECTED, SCORES, TRIALS, write_table
from bowerbird.config.loading import dump_config, parse_config
from bowerbird.config.sections.evaluation import EvaluationConfig
from bowerbird.metrics.score import Score
from bowerbird.stages.evaluation.summarize import summarize_scores

EVIL = "<script>document.title = 'taken'</script> & \"quotes\""
IDENTITY = Identity("fixture", 1, {})
GENDERS = dict(zip("abc", "FMF"))
STUDY = {
    "run": "fake",
    "corpus": {"num_shards": 1},
    "features": {"nano": {}},
    "codebook": {"k16": {"num_codes": 16}},
    "pairs": {"knn4": {}, "random": {"method": "random"}},
    "experiments": {
        "random-speaker": {"system": "anchor", "anchor": "random-speaker"},
        "vocoder": {"system": "vocoder"},
        "knnvc": {"system": "knnvc", "k": 8},
        "knnvc-random": {"system": "knnvc", "retrieval": "random"},
        "ground-truth": {"system": "anchor", "anchor": "ground-truth"},
    },
}


def fake_run(root: Path, second_system: bool = False) -> Path:
    """Write a whole run below ``root`` and return it."""
    more = {"qrvc": {"system": "knnvc", "k": 4}} if second_system else {}
    experiments = {**STUDY["experiments"], **more}
    write_text(root / "config.yaml", dump_config(parse_config({**STUDY, "experiments": experiments})))
    trials = fake_corpus(root)
    inputs = {"trials": "the same"}
    for number, name in enumerate(experiments):
        fake_conversions(root, name, trials, failed="b0-c" if name == "knnvc-random" else "")
        for family, metrics in (("intelligibility", ("mwer",)), ("speaker", ("secs", "src"))):
            fake_scores(root / "evaluation" / name / f"{family}.parquet", trials, metrics, 0.1 * number, inputs)
    scores = sorted((root / "evaluation").glob("*/*.parquet"))
    summarize_scores(scores, root / "evaluation" / "summary.parquet", EvaluationConfig(bootstrap=100))
    fake_codebook(root / "codebook" / "k16" / "summary.parquet")
    for name in ("knn4", "random"):
        fake_pairs(root / "pairs" / name / "quality.parquet", 0.8 if name == "knn4" else 0.1)
    lines = [{"step": s, "generator/mel": 1 / s, f"loss {EVIL}": 2 / s, "learning_rate": 1e-4} for s in range(1, 9)]
    lines.append({"step": 8, "valid/mel": 0.3})
    write_text(root / "training/vocoder/vocoder/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return root


def fake_corpus(root: Path) -> list[dict]:
    """Three speakers of three utterances, and six trials; one transcript is hostile."""
    rows, waves = [], {}
    for number, speaker in enumerate("abc"):
        for take in range(3):
            utt_id = f"{speaker}{take}"
            waves[utt_id] = voice(110 * 1.4**number, 0.6 + 0.1 * take, seed=take)
            text = EVIL if utt_id == "a0" else TEXTS[take % 2]
            rows.append(
                {
                    "utt_id": utt_id,
                    "speaker": speaker,
                    "gender": GENDERS[speaker],
                    "language": "en",
                    "session": "",
                    "text": text,
                    "path": f"{utt_id}.wav",
                    "sample_rate": 16000,
                    "num_samples": len(waves[utt_id]),
                    "duration_s": len(waves[utt_id]) / 16000,
                    "split": "train" if speaker == "a" else "test",
                    "shard": 0,
                    "sha256": "",
                }
            )
    write_table(root / "corpus/manifest.parquet", pd.DataFrame(rows), IDENTITY, MANIFEST)
    refused = [{"utt_id": "d0", "path": "d0.wav", "reason": "too_short", "detail": "0.1 s"}]
    write_table(root / "corpus/rejected.parquet", pd.DataFrame(refused), IDENTITY, REJECTED)
    with ShardWriter(root / "corpus/audio/shard-0000.npy", "int16", (), "num_samples") as writer:
        for utt_id, wave in waves.items():
            writer.add(utt_id, wave)
        writer.close(IDENTITY, RunRecord())
    with ShardWriter(root / "features/nano/shard-0000.npy", "float16", (2,)) as writer:
        writer.add("a0", np.zeros((3, 2)))
        encoder = {"encoder": "an <i>encoder</i>", "layer": 6, "weights_sha256": "e" * 64}
        writer.close(IDENTITY, RunRecord(), extra={"encoder": encoder})
    trials = [
        {
            "trial_id": f"{s}0-{t}",
            "source_utt": f"{s}0",
            "source_speaker": s,
            "source_gender": GENDERS[s],
            "target_speaker": t,
            "target_gender": GENDERS[t],
            "reference_utts": [f"{t}1"],
            "reference_s": 0.7,
            "prompt_s": 0.7,
            "heldout_utt": f"{t}2",
            "parallel_utt": "",
            "random_speaker_utt": "a1",
            "text": EVIL if s == "a" else TEXTS[0],
            "language": "en",
            "condition": "any",
        }
        for s in "abc"
        for t in "abc"
        if s != t
    ]
    write_table(root / "corpus/trials.parquet", pd.DataFrame(trials), IDENTITY, TRIALS)
    return trials


def fake_conversions(root: Path, name: str, trials: list[dict], failed: str) -> None:
    """A tone for each trial; the trial ``failed`` has an error instead."""
    rows = []
    for number, trial in enumerate(trials):
        ok = trial["trial_id"] != failed
        path = f"{trial['trial_id']}.flac" if ok else ""
        if ok:
            write_audio(root / "conversion" / name / path, voice(150, 0.6, seed=number))
        facts = {
            "spoken_utt": trial["source_utt"],
            "path": path,
            "sha256": "",
            "num_samples": 9600,
            "heard_s": 0.7,
            "gain_db": 0.0,
        }
        state = {"limited": False, "status": "ok" if ok else "failed", "error": "" if ok else f"no luck {EVIL}"}
        rows.append({**trial, **facts, **state})
    write_table(root / "conversion" / name / "trials.parquet", pd.DataFrame(rows), IDENTITY, CONVERSIONS)


def fake_scores(path: Path, trials: list[dict], metrics: tuple[str, ...], level: float, inputs: dict) -> None:
    """Values around ``level``; what was heard is hostile too."""
    rows = []
    for number, trial in enumerate(trials):
        for metric in metrics:
            score = Score(metric, level + 0.01 * number, f"{metric}@1", "scorer 1.0 size=small", "f" * 64, "plain")
            shared = {
                key: trial[key]
                for key in (
                    "trial_id",
                    "source_speaker",
                    "target_speaker",
                    "source_gender",
                    "target_gender",
                    "language",
                    "condition",
                )
            }
            rows.append({**shared, **asdict(score), "text": f"heard {EVIL}" if metric == "mwer" else ""})
    identity = Identity("evaluation", 1, {}, inputs)
    RunRecord().write(path, identity) if path.parent.exists() else path.parent.mkdir(parents=True)
    write_table(path, pd.DataFrame(rows), identity, SCORES)


def fake_codebook(path: Path) -> None:
    frames = np.array([*range(15, 0, -1), 0])
    table = {"code": np.arange(16), "frames": frames, "share": frames / frames.sum(), "speakers": np.minimum(frames, 3)}
    write_table(path, pd.DataFrame(table), IDENTITY, extra={"facts": {"perplexity": 12.5, "dead_codes": 1}})


def fake_residual(folder: Path) -> None:
    """Probes of a codebook's residual in ``folder``, and its points in two directions."""
    parts = [("S", 0.9, 0.6), ("Q", 0.3, 0.5), ("R", 0.8, 0.2)]
    probes = [
        {"representation": part, "dim": 4, "target": target, "accuracy": accuracy, "chance": 0.2}
        for part, *accuracies in parts
        for target, accuracy in zip(("speaker", "phone"), accuracies, strict=True)
    ]
    points = [
        {"representation": part, "speaker": speaker, "x": x, "y": -x}
        for part in "sRQ"
        for x, speaker in enumerate("abc")
    ]
    identity = Identity("codebook.residual", 1, {"phonetic": f"phones {EVIL}"})
    facts = {"codes": 16, "residual_energy": 0.123, "utterances": 5}
    write_table(folder / "pca.parquet", pd.DataFrame(points), identity)
    write_table(folder / "residual.parquet", pd.DataFrame(probes), identity, extra={"facts": facts})


def fake_pairs(path: Path, agreement: float) -> None:
    table = pd.DataFrame({"cosine_mean": np.linspace(0.4, 0.9, 12), "coverage": np.linspace(0.1, 0.3, 12)})
    facts = {
        "pairs": 12,
        "hours": 0.01,
        "cosine_mean": 0.65,
        "unit_agreement": agreement,
        "unit_agreement_nearest": agreement,
        "unit_agreement_random": 0.1,
        "donor_coverage": 0.5,
        "donor_hubness": 3.0,
    }
    write_table(path, table, IDENTITY, extra={"facts": facts, "method": "nearest", "k": 4})
    write_json(path.with_name(path.name + ".run.json"), {"seconds": 61.0, "peak_memory_mib": 300.0})
