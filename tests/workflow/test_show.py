"""`bowerbird show`, `lineage`, `plan-cost` and `write-crate` of a finished run: what they say is what is on disk."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from bowerbird.artifacts.tables import read_table
from bowerbird.cli.__main__ import main
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.cost import measured_costs, plan_cost
from bowerbird.inspection.lineage import draw_lineage
from bowerbird.inspection.ro_crate import write_crate
from bowerbird.inspection.show import show_artifact

pytestmark = pytest.mark.slow
CONTEXT = "https://w3id.org/ro/crate/1.1/context"


# -------------------------------------------------------------------------------------------------------------- lineage
def test_lineage_names_every_ancestor_each_once_and_parents_below_their_child(finished, capsys) -> None:
    draw_lineage(finished.results / "pairs" / "knn4" / "shard-0000.npy")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pairs/knn4/shard-0000.npy   [pairs ")
    tree = [((len(line) - len(line.lstrip())) // 4, line.strip().split("   ")[0]) for line in lines]
    assert tree[1:] == [
        (1, "manifest: corpus/manifest.parquet"),
        (2, "listing: bundled:demo/utterances.tsv"),
        (1, "features: features/nano/shard-0000.npy"),
        (2, "audio: corpus/audio/shard-0000.npy"),
        (3, "manifest: corpus/manifest.parquet"),
        (2, "encoder: bundled:nano-encoder/config.json"),
        (2, "encoder: and 1 more"),
        (1, "features: and 1 more"),
    ]
    assert lines[5].endswith("(above)")  # the manifest was drawn before


def test_lineage_of_a_conversion_reaches_every_stage_before_it(finished, capsys) -> None:
    draw_lineage(finished.results / "conversion" / "palindromic" / "trials.parquet")
    text = capsys.readouterr().out
    expected = {
        "converter: training/palindromic/converter/model.safetensors",
        "revocoder: training/palindromic/revocoder/model.safetensors",
        "pairs: pairs/knn4/shard-0000.npy",
        "features: features/nano/shard-0000.npy",
        "trials: corpus/trials.parquet",
        "manifest: corpus/manifest.parquet",
        "audio: corpus/audio/shard-0000.npy",
    }
    assert {name for name in expected if name not in text} == set()
    assert "(not there)" not in text
    drawn = [
        line.strip() for line in text.splitlines() if "(above)" not in line and not re.search(r": and \d+ more$", line)
    ]
    names = [line.split(": ")[-1].split("   ")[0] for line in drawn]
    assert len(names) == len(set(names)), "an ancestor is drawn twice"


def test_lineage_says_which_ancestor_is_gone(finished, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(finished.results, copy, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    (copy / "features" / "nano" / "shard-0000.npy").unlink()
    draw_lineage(copy / "codebook" / "k32" / "centroids.safetensors")
    assert re.search(r"features: features/nano/shard-0000.npy.*\(not there\)", capsys.readouterr().out)


@pytest.mark.parametrize("command", ["show", "lineage"])
def test_what_is_no_artifact_is_one_line(command: str, tmp_path: Path, capsys) -> None:
    stray = tmp_path / "stray.npy"
    assert main([command, str(stray)]) == 1
    np.save(stray, np.zeros(3))
    assert main([command, str(stray)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and all(line.startswith(f"bowerbird {command}: {stray}: ") for line in lines)


# ----------------------------------------------------------------------------------------------------------------- show
def provenance_of(path: Path, capsys) -> dict[str, str]:
    show_artifact(path)
    lines = [line for line in capsys.readouterr().out.splitlines()[1:] if line.startswith("  ")]
    return {line[2:12].strip(): line[13:] for line in lines if line[2:12].strip()}


def test_the_provenance_of_a_model_names_command_parameters_parents_and_seconds(finished, capsys) -> None:
    path = finished.results / "training" / "palindromic" / "converter" / "model.safetensors"
    record = json.loads(path.with_name(f"{path.name}.run.json").read_text())
    show_artifact(path)
    text = capsys.readouterr().out
    assert text.startswith("training/palindromic/converter/model.safetensors   (")
    assert "command    bowerbird train-stage" in text
    assert f"parameters {record['identity']['params_hash']}" in text
    assert f"{record['started']} on {record['host']}" in text and f" {record['seconds']:g} s, " in text
    assert re.search(r"pairs +pairs/knn4/shard-0000\.npy and 1 more", text)
    assert re.search(r"tensors +\d+, [\d.]+ M numbers", text)
    assert re.search(r"now +what the configuration asks for", text)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("corpus/manifest.parquet", "list-corpus"),
        ("corpus/rejected.parquet", "list-corpus"),
        ("corpus/trials.parquet", "list-trials"),
        ("corpus/audio/shard-0000.npy", "store-audio"),
        ("codebook/k32/units/shard-0000.npy", "assign-units"),
        ("codebook/k32/summary.parquet", "summarize-units"),
        ("codebook/k32/residual.parquet", "probe-residual"),
        ("pairs/knn4/quality.parquet", "summarize-pairs"),
        ("conversion/knnvc/trials.parquet", "convert-trials"),
        ("evaluation/knnvc/speaker.parquet", "score-trials"),
        ("evaluation/transcripts.parquet", "transcribe-sources"),
        ("evaluation/summary.parquet", "summarize-scores"),
        ("report/index.html", "write-report"),
    ],
)
def test_the_provenance_names_the_command_that_a_rule_ran(finished, capsys, path: str, command: str) -> None:
    assert provenance_of(finished.results / path, capsys)["command"] == f"bowerbird {command}"
    rules = "".join(file.read_text() for file in (finished.root / "rules").glob("*.smk"))
    assert re.search(rf'"(bowerbird|{{LAUNCH}}) {command}"', rules)


def test_the_provenance_of_what_is_out_of_date_says_why(finished, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(finished.results, copy, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("    k: 4\n", "    k: 3\n", 1))
    told = provenance_of(copy / "pairs" / "knn4" / "shard-0000.npy", capsys)
    assert "k: made with 4, the configuration says 3" in told["now"]


@pytest.mark.parametrize(
    ("path", "headings", "pictures"),
    [
        ("features/nano", ("dead", "rank", "drift", "hubs", "leakage"), 5),
        ("codebook/k32", ("codes", "rank", "collapse", "drift", "hubs", "leakage"), 4),
        ("pairs/knn4", ("cosine", "hubs", "collapse", "leakage", "drift"), 5),
    ],
)
def test_diagnostics_have_their_numbers_pictures_and_the_neighbors_of_a_frame(
    finished, tmp_path: Path, capsys, path: str, headings: tuple[str, ...], pictures: int
) -> None:
    table = read_table(finished.results / "corpus" / "manifest.parquet", ["utt_id", "speaker", "split"])
    utt_id, speaker, _ = table[table["split"] == "train"].iloc[0]
    show_artifact(finished.results / path, tmp_path / "page", f"{utt_id}:40", neighbors=4)
    text = capsys.readouterr().out
    said = {line[2:12].strip(): line[13:] for line in text.splitlines() if line.startswith("  ")}
    assert [heading for heading in headings if not said.get(heading)] == []
    assert f"{utt_id}:40 ({speaker}): " in text
    found = re.findall(r"^  ([01]\.\d+)  (\S+):(\d+)  \((\S+)\)$", text, flags=re.M)
    assert 1 <= len(found) <= 4
    cosines = [float(cosine) for cosine, *_ in found]
    assert cosines == sorted(cosines, reverse=True)
    owner = dict(zip(table["utt_id"], table["speaker"], strict=True))
    assert all(owner[name] == who and name != utt_id for _, name, _, who in found)
    if path == "pairs/knn4":  # of a donor, who is another speaker, and what the shards hold
        assert speaker not in {who for *_, who in found}
    html = (tmp_path / "page" / "index.html").read_text()
    assert html.count("<svg ") == pictures
    assert html.count("<audio ") >= 1 + len(found)


def test_neighbors_of_a_frame_are_those_of_a_search_over_all_frames(finished, capsys) -> None:
    from bowerbird.artifacts.shards import Shards, shard_paths

    features = Shards(shard_paths(finished.results / "features" / "nano"))
    utt_id = next(iter(features))
    query = np.asarray(features[utt_id][40], dtype=np.float32)
    scores = {}
    for other in features:
        if other != utt_id:
            values = np.asarray(features[other], dtype=np.float32)
            cosines = values @ query / np.linalg.norm(values, axis=1) / np.linalg.norm(query)
            scores |= {f"{other}:{number}": float(cosine) for number, cosine in enumerate(cosines)}
    best = sorted(scores, key=lambda name: -scores[name])[:5]
    show_artifact(finished.results / "features" / "nano", None, f"{utt_id}:40", neighbors=5)
    found = re.findall(r"^  ([01]\.\d+)  (\S+:\d+)  ", capsys.readouterr().out, flags=re.M)
    assert [name for _, name in found] == best
    assert [float(cosine) for cosine, _ in found] == pytest.approx([scores[name] for name in best], abs=1.0e-3)


# ------------------------------------------------------------------------------------------------------------ plan-cost
def test_costs_are_those_of_the_benchmark_files(finished) -> None:
    costs = {(cost.stage, cost.variant): cost for cost in measured_costs(finished.results)}
    files = sorted((finished.results / "benchmarks").rglob("*.tsv"))
    rows = [path.read_text().splitlines()[1].split("\t") for path in files]
    assert sum(cost.measured.jobs for cost in costs.values()) == len(files)
    assert sum(cost.measured.seconds for cost in costs.values()) == pytest.approx(sum(float(row[0]) for row in rows))
    features = costs["features", "nano"]
    assert features.measured.jobs == 2
    own = sum(p.stat().st_size for p in (finished.results / "features" / "nano").iterdir())
    assert features.disk.total_bytes == own


def test_a_forecast_grows_with_hours_where_the_work_does(finished, capsys) -> None:
    manifest = read_table(finished.results / "corpus" / "manifest.parquet")
    speech_h = manifest["duration_s"].sum() / 3600

    def rows(hours: float) -> dict[str, list[float]]:
        plan_cost(finished.results, hours)
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        return {f"{w[0]} {w[1]}": [float(w[3]), float(w[5])] for w in lines if len(w) == 7 and w[2].isdigit()}

    one, hundred = rows(100 * speech_h), rows(10_000 * speech_h)
    assert hundred["features nano"] == pytest.approx([100 * value for value in one["features nano"]], rel=0.02)
    assert hundred["pairs knn4"][0] == pytest.approx(100 * one["pairs knn4"][0], rel=0.02)
    assert hundred["training palindromic/converter"] == one["training palindromic/converter"]
    assert hundred["evaluation knnvc"] == one["evaluation knnvc"]


@pytest.mark.parametrize("hours", ["-1", "nan", "inf"])
def test_a_forecast_refuses_nonsense(finished, hours: str, capsys) -> None:
    assert main(["plan-cost", "--root", str(finished.results), f"--hours={hours}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("bowerbird plan-cost: --hours: ") and said.count("\n") == 1


def test_a_forecast_without_a_run_says_what_to_do_first(tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match="make a small run first"):
        plan_cost(tmp_path)


# ---------------------------------------------------------------------------------------------------------- write-crate
@pytest.fixture(scope="module")
def crate(finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict]]:
    """A copy of the run with an awkward file name in it, as a crate; and its entities by id."""
    root = tmp_path_factory.mktemp("crate") / "tiny"
    shutil.copytree(finished.results, root, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    (root / "report" / "assets" / "data" / "50 % <b>.csv").write_text("a\n")
    write_crate(root, license="https://spdx.org/licenses/MIT", author="A. <Person>")
    metadata = json.loads((root / "ro-crate-metadata.json").read_text())
    context = metadata["@context"] if isinstance(metadata["@context"], list) else [metadata["@context"]]
    assert CONTEXT in context
    entities = {entity["@id"]: entity for entity in metadata["@graph"]}
    assert len(entities) == len(metadata["@graph"]), "two entities have one @id"
    return root, entities


def test_the_crate_has_the_entities_that_the_specification_requires(crate) -> None:
    """RO-Crate 1.1: a descriptor about the root, and a root with name, description, date, license and parts."""
    _, entities = crate
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["@type"] == "CreativeWork" and descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset" and root["name"] and root["description"]
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", root["datePublished"])
    assert root["license"] == {"@id": "https://spdx.org/licenses/MIT"} and root["license"]["@id"] in entities
    assert entities[root["author"]["@id"]]["name"] == "A. <Person>"
    assert all("@type" in entity for entity in entities.values())


def test_every_reference_in_the_crate_is_defined_in_it(crate) -> None:
    _, entities = crate

    def references(value: object):
        if isinstance(value, dict) and set(value) == {"@id"}:
            yield value["@id"]
        for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from references(below)

    undefined = {r for entity in entities.values() for r in references(entity) if r not in entities}
    assert undefined == {"https://w3id.org/ro/crate/1.1"}  # the specification itself


def test_every_file_of_the_crate_is_there_with_its_size_and_digest(crate) -> None:
    root, entities = crate
    files = {name: entity for name, entity in entities.items() if entity["@type"] == "File"}
    assert [part["@id"] for part in entities["./"]["hasPart"]] == list(files)
    for name, entity in files.items():
        assert not re.search(r"[ <>%](?![0-9A-F]{2})|^/|\.\.", name), f"{name!r} is no relative URI"
        data = (root / unquote(name)).read_bytes()
        assert entity["contentSize"] == str(len(data)), name
        assert entity["sha256"] == hashlib.sha256(data).hexdigest(), name
    on_disk = {
        str(p.relative_to(root))
        for p in root.rglob("*")
        if p.is_file()
        and not any(part.startswith(".") for part in p.relative_to(root).parts)
        and not {"logs", "benchmarks"} & set(p.relative_to(root).parts)
        and p.name != "ro-crate-metadata.json"
    }
    assert {unquote(name) for name in files} == on_disk


def test_actions_of_the_crate_say_what_made_what_when(crate) -> None:
    root, entities = crate
    action = entities["#make-pairs/knn4/shard-0000.npy"]
    record = json.loads((root / "pairs" / "knn4" / "shard-0000.npy.run.json").read_text())
    assert action["@type"] == "CreateAction" and action["result"] == {"@id": "pairs/knn4/shard-0000.npy"}
    assert {item["@id"] for item in action["object"]} == {
        "corpus/manifest.parquet",
        "features/nano/shard-0000.npy",
        "features/nano/shard-0001.npy",
    }
    assert action["startTime"] == record["started"] and action["endTime"] >= action["startTime"]
    assert entities[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"


def test_a_crate_of_what_is_no_run_is_one_line(tmp_path: Path, capsys) -> None:
    assert main(["write-crate", "--root", str(tmp_path)]) == 1
    assert "so this is no run" in capsys.readouterr().err
