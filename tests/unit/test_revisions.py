"""Models of a hub need a pinned commit: a warning, and with --strict an error; what is on this machine needs none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bowerbird.cli.__main__ import main
from bowerbird.config.loading import parse_config
from bowerbird.config.revisions import check_pins, unpinned_models
from bowerbird.errors import BowerbirdError

COMMIT = "c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c"
REPOSITORY = Path(__file__).resolve().parents[2]


def unpinned(**values: object) -> list[str]:
    return list(unpinned_models(parse_config(values)))


@pytest.mark.parametrize(
    "features",
    [
        {"encoder": "bundled:nano-encoder"},
        {"encoder": "/shared/models/wavlm-large"},
        {"encoder": "./wavlm"},
        {"encoder": "~/wavlm"},
        {"kind": "phonetic", "encoder": "bundled:nano-phones"},
        {"kind": "speaker", "encoder": "ge2e"},
        {"encoder": "log-mel"},
    ],
)
def test_what_is_on_this_machine_needs_no_commit(features: dict[str, str]) -> None:
    assert unpinned(features={"a": features}) == []


def test_a_folder_that_looks_like_a_hub_id_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "microsoft" / "wavlm-large").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert unpinned(features={"a": {"encoder": "microsoft/wavlm-large"}}) == []


@pytest.mark.parametrize("revision", ["", "main", "v1.0", COMMIT[:12], COMMIT.upper()])
@pytest.mark.parametrize("kind", ["self-supervised", "phonetic", "speaker"])
def test_a_hub_id_is_pinned_by_a_whole_commit_only(kind: str, revision: str) -> None:
    features = {"kind": kind, "encoder": "microsoft/wavlm-large", "revision": revision}
    (line,) = unpinned(features={"a": features})
    assert line.startswith("features.a.encoder: microsoft/wavlm-large: ") and "set features.a.revision to" in line
    assert unpinned(features={"a": {**features, "revision": COMMIT}}) == []


def test_recognizers_and_verifiers_are_looked_at_too() -> None:
    evaluation = {"asr": "openai/whisper-tiny", "verifier": "speechbrain/spkrec-ecapa-voxceleb"}
    lines = unpinned(
        features={"nano": {}},
        pairs={"knn4": {}},
        experiments={
            "v": {"system": "vocoder"},
            "p": {"system": "palindromic", "vocoder": "v", "converter": {"speaker_encoder": "a/verifier"}},
        },
        evaluation=evaluation,
    )
    assert [line.split(": ")[0] for line in lines] == [
        "evaluation.asr",
        "evaluation.verifier",
        "experiments.p.converter.speaker_encoder",
    ]
    assert "write speechbrain/spkrec-ecapa-voxceleb@COMMIT and set COMMIT to the commit's 40 digits" in lines[1]
    pinned = {"asr_revision": COMMIT, "verifier": f"speechbrain/spkrec-ecapa-voxceleb@{COMMIT}"}
    assert len(unpinned(evaluation={**evaluation, "asr_revision": COMMIT})) == 1
    assert unpinned(evaluation={**evaluation, **pinned}) == []


def test_strict_makes_it_an_error_that_names_every_one() -> None:
    study = {"features": {"a": {"encoder": "x/a"}, "b": {"encoder": "x/b"}}}
    assert len(check_pins(parse_config(study))) == 2
    with pytest.raises(BowerbirdError, match=r"(?s)strict: features.a.encoder: .*features.b.encoder: "):
        check_pins(parse_config({**study, "strict": True}))


@pytest.mark.parametrize("in_file", [False, True])
def test_config_check_warns_and_with_strict_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], in_file: bool
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump({"features": {"a": {"encoder": "microsoft/wavlm-large"}}, "strict": in_file}))
    assert main(["config", "check", str(study)]) == (1 if in_file else 0)
    printed = capsys.readouterr()
    assert "features.a.encoder: microsoft/wavlm-large: a hub id without a commit" in printed.err
    assert printed.err.startswith("bowerbird config check: strict: " if in_file else "warning: ")
    assert main(["config", "check", str(study), "--strict"]) == 1


def test_the_shipped_study_is_strict_already() -> None:
    assert main(["config", "check", str(REPOSITORY / "config.yaml"), "--strict"]) == 0
