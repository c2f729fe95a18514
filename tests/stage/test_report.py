"""The report: complete, offline, escaped, the same for the same run, and honest about what is not there."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from report_fixture import EVIL, IDENTITY, fake_residual, fake_run

from bowerbird.artifacts.files import write_json, write_text
from bowerbird.artifacts.tables import read_table, write_table
from bowerbird.config.graph import Graph
from bowerbird.config.loading import dump_config, parse_config, read_yaml
from bowerbird.config.paths import Paths
from bowerbird.config.sections.report import ReportConfig
from bowerbird.errors import BowerbirdError
from bowerbird.metrics.anchors import check_anchors
from bowerbird.metrics.registry import METRICS
from bowerbird.metrics.shared_models import NamedJudge
from bowerbird.stages.report.formats import duration, number, size, slug
from bowerbird.stages.report.ledger import Ledger, LedgerLine
from bowerbird.stages.report.page import write_report
from bowerbird.stages.report.players import choose_trials
from bowerbird.stages.report.provenance import list_weights
from bowerbird.stages.report.run_data import Run
from bowerbird.stages.report.tables import MetricDefinition, describe_system, gather_scores


class Page(HTMLParser):
    """Links, tags and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "data", "poster", "srcset", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def run_of(root: Path, study: dict) -> Run:
    """The run below ``root`` with another configuration than its own."""
    config = parse_config(study)
    return Run(Graph(config, Paths(root, config.corpus.num_shards)))


def ledger_of(root: Path) -> dict[str, LedgerLine]:
    """Lines of the ledger by stage."""
    return {line.name: line for line in Ledger(Run(Graph.of_run(root))).lines}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run(tmp_path_factory.mktemp("run") / "fake")


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(run, tmp_path_factory.mktemp("report"))


def write(run: Path, folder: Path, players: int = 6) -> Path:
    write_report(run, folder / "index.html", run / "config.yaml", ReportConfig(title="A & B", players=players))
    return folder / "index.html"


def test_every_link_is_a_file_of_the_report_or_a_place_on_the_page(report: Path) -> None:
    page = Page(report)
    assert len(page.links) > 40
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert (report.parent / link).is_file(), link
            assert (report.parent / link).resolve().is_relative_to(report.parent), link
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_loaded_from_elsewhere(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    text = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)  # names, not addresses
    assert not re.search(r"(https?:)?//\w", re.sub(r"(?m)^\s*// .*$", "", text))
    assert "url(" not in re.sub(r"url\(#", "", text) and "@import" not in text
    assert "default-src 'none'" in text
    assert str(report.parent) not in text and "/tmp/" not in text


def test_all_text_from_data_stays_text(report: Path) -> None:
    page, raw = Page(report), report.read_text(encoding="utf-8")
    assert page.tags.count("script") == 1  # our own
    assert "<script>document.title" not in raw and "<i>encoder</i>" not in raw
    assert EVIL in page.text and f"heard {EVIL}" in page.text and f"no luck {EVIL}" in page.text
    assert f"loss {EVIL}" in page.text and "an <i>encoder</i>" in page.text


def test_anchors_stand_apart_in_their_order(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    names = re.findall(r'<tr class="(system|control|anchor)"><th scope="row">([\w-]+)<', text)[:5]
    assert names == [
        ("system", "knnvc"),
        ("control", "knnvc-random"),
        ("anchor", "ground-truth"),
        ("anchor", "vocoder"),
        ("anchor", "random-speaker"),
    ]


def test_numbers_come_with_interval_definition_model_and_rows(run: Path, report: Path) -> None:
    page = Page(report)
    row = read_table(run / "evaluation/summary.parquet").set_index(["experiment", "metric"]).loc[("knnvc", "secs")]
    assert f"{row['mean']:.3f}" in page.text and f"{row['low']:.3f} to {row['high']:.3f}" in page.text
    assert "secs@1" in page.text and "scorer 1.0 size=small" in page.text and "f" * 12 in page.text
    assert "descriptive only: 3 speakers on one side" in page.text
    assert "Not computed in this run: WER, CER" in page.text
    rows = pd.read_csv(report.parent / "assets/data/knnvc-speaker.csv")
    assert rows.loc[rows["metric"] == "secs", "value"].mean() == pytest.approx(row["mean"])
    assert "assets/data/knnvc-speaker.csv" in page.links


def test_facts_of_the_run_are_on_the_page(report: Path) -> None:
    text = Page(report).text
    for fact in ("A & B", "1 too short", "e" * 64, "layer 6", "perplexity", "12.5", "k: 8", "1 min 01 s", "knn4"):
        assert fact in text, fact


def test_players_are_of_the_trials_shown_and_playable(report: Path) -> None:
    page = Page(report)
    sounds = {link for link in page.links if link.endswith(".flac")}
    assert page.tags.count("path") > 0 and page.text.count("target, held out") == 6
    assert sounds == {f"assets/audio/{p.name}" for p in (report.parent / "assets/audio").iterdir()}
    assert page.tags.count("audio") == 6 * (1 + 3 + 2) - 1  # source, three conversions, two of the target; one failed
    for link in sounds:
        assert soundfile.info(report.parent / link).samplerate == 16000


def test_trials_shown_spread_over_speakers(run: Path) -> None:
    table = read_table(run / "corpus/trials.parquet")
    chosen = choose_trials(table, 3)
    assert {t["source_speaker"] for t in chosen} == set("abc")
    assert len({t["target_speaker"] for t in chosen}) >= 2
    shuffled = table.sample(frac=1, random_state=1)
    assert [t["trial_id"] for t in choose_trials(shuffled, 3)] == [t["trial_id"] for t in chosen]
    assert len(choose_trials(table, 99)) == len(table)


def test_the_same_run_gives_the_same_bytes(run: Path, report: Path, tmp_path: Path) -> None:
    again = write(run, tmp_path)
    files = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file() and not p.name.endswith(".run.json")}
    assert len(files) > 20
    for name in files:
        assert (tmp_path / name).read_bytes() == (report.parent / name).read_bytes(), name
    write(run, again.parent, players=0)  # written again: what is no longer shown is gone
    assert not list((again.parent / "assets/audio").iterdir())
    assert "report.players is 0" in Page(again).text
    assert not list(again.parent.glob(".tmp-*"))


@pytest.mark.parametrize(
    "missing",
    [
        {
            "codebook": "This run has no codebook.",
            "pairs": "This run has no pairs.",
            "training": "Nothing was trained in this run.",
            "evaluation": "No scores: this run has no evaluation/summary.parquet.",
            "conversion/knnvc": "not converted",
            "corpus/audio": "its audio is not there",
        },
        {
            "corpus": "No trials: this run has no corpus/trials.parquet.",
            "codebook": "This run has no codebook.",
            "features": "No weights are recorded.",
        },
    ],
    ids=["stages", "corpus"],
)
def test_what_is_missing_is_said_where_it_would_stand(run: Path, tmp_path: Path, missing: dict[str, str]) -> None:
    part = tmp_path / "run"
    shutil.copytree(run, part)
    for folder in missing:
        shutil.rmtree(part / folder)
    text = Page(write(part, tmp_path / "report", players=1)).text
    for said in missing.values():
        assert said in text


def test_a_metric_without_a_value_has_a_dash_and_a_reason(run: Path, tmp_path: Path) -> None:
    part = tmp_path / "run"
    shutil.copytree(run, part)
    path = part / "evaluation/summary.parquet"
    table = read_table(path)
    lost = (table["experiment"] == "knnvc") & (table["metric"] == "secs")
    table.loc[lost, ["mean", "low", "high"]] = float("nan")
    table.loc[lost, ["n", "missing", "note"]] = [0, 6, 'because "so"']
    write_table(path, table, IDENTITY)
    report = write(part, tmp_path / "report", players=0)
    assert 'data-value="" title="because &#34;so&#34;">–' in report.read_text(encoding="utf-8")
    assert "n 0, 6 without" in Page(report).text


def test_a_folder_of_somebody_else_is_not_deleted(run: Path, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "mine.txt").write_text("mine")
    with pytest.raises(BowerbirdError, match="assets: is there and is not of a report"):
        write(run, tmp_path)
    assert (tmp_path / "assets" / "mine.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["assets"]


def test_numbers_for_the_eye() -> None:
    assert [number(v) for v in (None, float("nan"), 0, 3, 0.1234, 12.345, 17814, 1234.5)] == [
        "–",
        "–",
        "0",
        "3",
        "0.123",
        "12.3",
        "17\u202f814",
        "1\u202f234",
    ]
    assert [duration(v) for v in (0.04, 59.9, 61, 3600 * 5 + 200)] == ["0.0 s", "59.9 s", "1 min 01 s", "5 h 03 min"]
    assert [size(v) for v in (0.5, 12.34, 2048)] == ["512 KiB", "12.3 MiB", "2.0 GiB"]
    assert slug("../a b<c>") == "a-b-c"


def judges_of(run: Path, experiments: dict, data: Path, **sections: dict) -> list[NamedJudge]:
    study = read_yaml(run / "config.yaml") | sections
    study["experiments"] |= experiments
    return gather_scores(run_of(run, study), data).judges


def scored_by(run: Path, tmp_path: Path, model: str, second: str = "", recognizer: str = "") -> Path:
    """The fake run with other verifiers, and another recognizer."""
    part = tmp_path / "run"
    shutil.copytree(run, part)
    path = part / "evaluation/summary.parquet"
    table = read_table(path)
    table.loc[table["metric"] == "secs", "model"] = model
    table.loc[(table["metric"] == "mwer") & bool(recognizer), "model"] = recognizer
    if second:
        rows = table[table["metric"] == "secs"].assign(metric="secs_second", definition="secs_second@1", model=second)
        table = pd.concat([table, rows], ignore_index=True)
    write_table(path, table, IDENTITY)
    return part


SYSTEMS = {
    "taught": {
        "system": "palindromic",
        "features": "nano",
        "pairs": "knn4",
        "vocoder": "vocoder",
        "converter": {"speaker_encoder": "ge2e"},
    },
    "untaught": {
        "system": "palindromic",
        "features": "nano",
        "pairs": "knn4",
        "vocoder": "vocoder",
        "converter": {"speaker_encoder": "ge2e", "speaker_weight": 0.0},
    },
    "by-table": {
        "system": "stepback",
        "features": "mel",
        "vocoder": "bundled:nano-world-mel",
        "preparation": {"speakers": "table"},
    },
    "by-reference": {"system": "stepback", "features": "mel", "vocoder": "bundled:nano-world-mel"},
    "embedded": {
        "system": "takin",
        "features": "nano",
        "speaker_encoder": "ge2e",
        "vocoder": "bundled:nano-world-mel",
    },
    "not-embedded": {
        "system": "takin",
        "features": "nano",
        "speaker_embeddings": "",
        "vocoder": "bundled:nano-world-mel",
    },
    "on-wavlm": {"system": "knnvc", "features": "large"},
}
SECTIONS = {
    "features": {
        "nano": {},
        "large": {"encoder": "microsoft/wavlm-large", "layer": 6},
        "mel": {"encoder": "log-mel", "layer": 0},
        "phones": {"kind": "phonetic", "encoder": "bundled:nano-phones"},
        "voice": {"kind": "speaker", "encoder": "ge2e", "max_window_s": 8.0},
    },
    "pairs": {"knn4": {}},
}


def test_both_verifiers_are_named_with_the_systems_that_share_a_model(run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    part = scored_by(run, tmp_path, "resemblyzer", second="wavlm-xvector wavlm-base-plus-sv")
    first, second, _ = judges_of(part, SYSTEMS, tmp_path / "data", **SECTIONS)
    assert (first.place, first.model, first.family) == ("first verifier", "resemblyzer", "GE2E")
    assert dict(first.shared_with) == {
        "taught": "trained with its speaker loss",
        "by-reference": "reads voices through it",
        "embedded": "reads voices through it",
    }
    assert {"untaught", "by-table", "not-embedded", "on-wavlm", "knnvc"} <= set(first.independent_of)
    assert (second.family, second.shared_with) == ("WavLM", [("on-wavlm", "works on WavLM's features")])
    assert "ground-truth" not in first.independent_of  # anchors are scored, not favored


def test_a_missing_second_verifier_is_said(run: Path, report: Path, tmp_path: Path) -> None:
    text = Page(report).text
    assert "First verifier scorer 1.0 size=small" in text and "nor which systems share a model with it" in text
    assert "Second verifier none; only one verifier scored the speakers" in text
    (tmp_path / "data").mkdir()
    part = scored_by(run, tmp_path, "exported redimnet-b6")
    first, second, _ = judges_of(part, SYSTEMS, tmp_path / "data", **SECTIONS)
    assert (first.family, first.shared_with, first.independent_of, second.model) == ("", [], [], "")


def test_a_system_that_shares_a_model_is_marked_in_the_table(run: Path, tmp_path: Path) -> None:
    part = scored_by(run, tmp_path, "resemblyzer", second="wavlm-xvector sv")
    study = read_yaml(part / "config.yaml")
    study["features"] = {"nano": {"encoder": "microsoft/wavlm-large"}}
    write_text(part / "config.yaml", dump_config(parse_config(study)))
    report = write(part, tmp_path / "report", players=0)
    text = report.read_text(encoding="utf-8")
    assert text.count("shares a model with what scores it") == 4  # knnvc and its control, in two tables
    assert 'title="works on WavLM&#39;s features (second verifier)"' in text


@pytest.mark.parametrize("is_substitute", [True, False])
def test_pocketsphinx_in_the_place_of_the_default_is_said(run: Path, tmp_path: Path, is_substitute: bool) -> None:
    part = scored_by(run, tmp_path, "resemblyzer", recognizer="pocketsphinx 5.1.1 en-us")
    study = read_yaml(part / "config.yaml")
    study["evaluation"] |= {"asr": "pocketsphinx", "asr_is_substitute": is_substitute}
    write_text(part / "config.yaml", dump_config(parse_config(study)))
    raw = write(part, tmp_path / "report", players=0).read_text(encoding="utf-8")
    sentence = '<p class="warn">Words were recognized by pocketsphinx, which makes many errors, because the default'
    assert raw.count(sentence) == is_substitute
    assert raw.count("install it (pip install &#39;bowerbird[asr]&#39;) and run again.</p>") == is_substitute
    if is_substitute:
        assert raw.index(sentence) < raw.index('<table class="scores')


def test_a_system_on_whispers_features_is_marked_where_a_whisper_recognizes(run: Path, tmp_path: Path) -> None:
    whisper = "whisper-base (ctranslate2 4.8.5 int8 greedy)"
    part = scored_by(run, tmp_path, "resemblyzer", recognizer=whisper)
    study = read_yaml(part / "config.yaml")
    study["features"]["nano"] = {"kind": "phonetic", "encoder": "openai/whisper-base", "layer": 6}
    write_text(part / "config.yaml", dump_config(parse_config(study)))
    report = write(part, tmp_path / "report", players=0)
    assert report.read_text(encoding="utf-8").count("works on Whisper&#39;s features (recognizer)") == 4
    found = f"Recognizer {whisper} {'f' * 12} . † Shares a model with knnvc (works on Whisper's features), knnvc-random"
    assert found in Page(report).text


def differences(*rows: tuple[str, str, str, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["metric", "first", "second", "difference", "low", "high"])


def test_anchors_out_of_order_are_named() -> None:
    kinds = {"good": "system", "bad": "system", "near": "system"}
    roles = {"truth": "ground-truth", "held": "heldout-target", "third": "random-speaker", "copy": "vocoder"}
    table = differences(
        ("wer", "truth", "good", -0.3, -0.4, -0.2),
        ("wer", "copy", "truth", -0.2, -0.3, -0.1),  # resynthesis with fewer errors than the truth: told apart
        ("wer", "third", "truth", -0.2, -0.3, -0.1),  # says other words: not compared
        ("secs", "good", "held", -0.2, -0.3, -0.1),
        ("secs", "near", "third", -0.01, -0.05, 0.03),
        ("secs", "third", "good", -0.2, -0.3, -0.1),
        ("secs", "third", "bad", 0.2, 0.1, 0.3),
        ("secs", "third", "truth", 0.1, 0.05, 0.2),  # the truth is another speaker too: not compared
    )
    words, held, third = check_anchors(table, kinds, roles)
    assert (words.num_compared, words.out_of_order, words.undecided) == (2, ["copy"], [])
    assert (held.num_compared, held.out_of_order, held.undecided) == (1, [], [])
    assert (third.num_compared, third.out_of_order, third.undecided) == (3, ["bad"], ["near"])
    assert check_anchors(table.iloc[:0], kinds, roles) == []


def test_the_order_of_anchors_is_on_the_page(report: Path) -> None:
    assert "The random speaker has a lower SECS than every system: " in Page(report).text


def test_a_job_that_writes_two_artifacts_is_counted_once(run: Path, tmp_path: Path) -> None:
    part = tmp_path / "run"
    shutil.copytree(run, part)
    recipe = {"started": "2026-01-01T00:00:00Z", "identity": {"params": {"k": 1}, "inputs": {"a": "b"}}}
    for name, seconds in (("centroids.safetensors", 4.5), ("sample.parquet", 4.0)):
        write_text(part / f"codebook/k16/{name}.run.json", json.dumps(recipe | {"seconds": seconds}))
    other = recipe | {"identity": {"params": {"k": 2}, "inputs": {}}, "seconds": 1.0}
    write_text(part / "codebook/k16/summary.parquet.run.json", json.dumps(other))
    line = ledger_of(part)["codebook"]
    assert (line.cost.recorded.jobs, line.cost.recorded.seconds) == (2, pytest.approx(5.5))
    speech = read_table(part / "corpus/manifest.parquet")["duration_s"].sum()
    assert line.rtf == pytest.approx(5.5 / speech)


def test_the_ledger_says_speed_against_real_time(run: Path, tmp_path: Path) -> None:
    part = tmp_path / "run"
    shutil.copytree(run, part)
    record = {"seconds": 3.0, "audio_s": 12.0}
    write_text(part / "conversion/knnvc/trials.parquet.run.json", json.dumps(record))
    write_text(part / "evaluation/knnvc/speaker.parquet.run.json", json.dumps({"seconds": 6.0}))
    lines = ledger_of(part)
    assert {p.name: p.rtf for p in lines["conversion"].parts}["knnvc"] == pytest.approx(0.25)
    assert {p.name: p.rtf for p in lines["evaluation"].parts}["knnvc"] == pytest.approx(0.5)
    assert lines["training"].rtf is None
    text = Page(write(part, tmp_path / "report", players=0)).text
    assert "RTF" in text and "0.250" in text


def test_a_verifier_is_named_without_its_threshold() -> None:
    made = MetricDefinition(METRICS["acc_eer"], "acc_eer@1", "", "resemblyzer, threshold 0.7 (EER 2 %)", "", "")
    assert made.short_model == "resemblyzer"


def test_opinions_have_their_names_and_direction(run: Path, tmp_path: Path) -> None:
    part = tmp_path / "run"
    shutil.copytree(run, part)
    path = part / "evaluation/summary.parquet"
    table = read_table(path)
    for name in ("nisqa", "nisqa_noisiness", "utmos", "distill_mos", "dnsmos_ovrl"):
        rows = table[table["metric"] == "secs"].assign(metric=name, definition=f"{name}@1")
        table = pd.concat([table, rows], ignore_index=True)
    write_table(path, table, IDENTITY)
    study = read_yaml(part / "config.yaml")
    study["evaluation"] = {"opinions": {"nisqa": "somewhere", "utmos": "elsewhere"}}
    (tmp_path / "data").mkdir()
    scores = gather_scores(run_of(part, study), tmp_path / "data")
    shown = {m.name: (m.heading, m.better) for m in scores.metrics}
    assert shown["nisqa"] == ("NISQA", 1) and shown["utmos"] == ("UTMOS", 1)
    headings = [m.heading for m in scores.metrics]
    assert headings[headings.index("DNSMOS") + 1] == "Distill-MOS"  # whatever the order of the rows
    assert [m.heading for m in scores.further_metrics if m.name == "nisqa_noisiness"] == ["NISQA noisiness"]


def test_numbers_of_parts_open_their_rows(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    table = text[text.index("SECS by gender") :]
    assert 'href="assets/data/knnvc-speaker.csv"' in table[: table.index("</table>")]


def test_many_points_are_named_in_a_column(run: Path, tmp_path: Path) -> None:
    part = tmp_path / "run"
    shutil.copytree(run, part)
    path = part / "evaluation/summary.parquet"
    table = read_table(path)
    words = table[table["metric"] == "secs"].assign(metric="wer", definition="wer@1")
    table = pd.concat([table, words], ignore_index=True)
    more = [table[table["experiment"] == "knnvc"].assign(experiment=f"variant-{n}") for n in range(9)]
    write_table(path, pd.concat([table, *more], ignore_index=True), IDENTITY)
    text = write(part, tmp_path / "report", players=0).read_text(encoding="utf-8")
    figure = text[text.index('<figure class="wide">') :]
    assert all(f">variant-{n}<" in figure[: figure.index("</figure>")] for n in range(9))


def test_controls_are_known_by_their_pairs(run: Path) -> None:
    study = read_yaml(run / "config.yaml")
    study["pairs"] = {"knn4": {}, "mixed": {"method": "shuffled"}}
    base = {"system": "palindromic", "features": "nano", "vocoder": "vocoder"}
    study["experiments"] |= {"real": base | {"pairs": "knn4"}, "control": base | {"pairs": "mixed"}}
    found = run_of(run, study)
    assert (describe_system("real", found).kind, describe_system("control", found).kind) == ("system", "control")
    assert describe_system("control", found).description.endswith(" on pairs of shuffled frames")


def test_steps_of_the_sampler_are_beside_what_they_cost(run: Path, tmp_path: Path) -> None:
    """A table and a figure where one flow was sampled in several ways; a flow that was sampled once is in neither."""
    part = tmp_path / "run"
    shutil.copytree(run, part)
    study = read_yaml(part / "config.yaml")
    takin = {
        "system": "takin",
        "phones": "",
        "speaker_embeddings": "",
        "mels": "nano",
        "vocoder": "bundled:nano-world-mel",
    }
    again = takin | {"reuse": {"content": "takin", "flow": "takin"}}
    study["experiments"] |= {
        "takin": takin,
        "takin-5": again | {"sampling_steps": 5},
        "takin-midpoint": again | {"sampler": "midpoint", "sampling_steps": 5},
        "takin-alone": takin | {"guidance": 0.0},
    }
    (part / "config.yaml").write_text(dump_config(parse_config(study)))
    costs = {"takin": 0.2, "takin-5": 0.1, "takin-midpoint": 0.21, "takin-alone": 0.3}
    for name, flow in costs.items():
        rtf = {"condition": 0.01, "flow": flow, "vocoding": 0.05, "conversion": flow + 0.06}
        write_json(
            part / "conversion" / name / "trials.parquet.run.json", {"rtf": rtf, "audio_s": 61.0, "seconds": 9.0}
        )
    found = Ledger(run_of(part, study)).sampler_speeds
    assert [(s.experiment, s.steps, s.calls) for s in found] == [
        ("takin-5", 5, 10),
        ("takin", 10, 20),
        ("takin-midpoint", 5, 20),
    ]
    report = write(part, tmp_path / "report", players=0)
    text = Page(report).text
    assert "Steps of the sampler" in text and "takin, w = 0.7, all of the reference midpoint 5 20 " in text
    assert "real-time factor of the flow over the sampler's steps" in text
    rows = re.findall(r'<tr><th scope="row">([\w-]+)</th><td>takin, w', report.read_text(encoding="utf-8"))
    assert rows == ["takin-5", "takin", "takin-midpoint"]


def test_no_steps_without_a_sampler(report: Path) -> None:
    assert "Steps of the sampler" not in Page(report).text


def test_scores_are_drawn_over_the_size_of_the_codebook(run: Path, tmp_path: Path) -> None:
    """Lines of systems that differ only in their codebook, with and without the bottleneck; one alone is no line."""
    part = tmp_path / "run"
    shutil.copytree(run, part)
    study = read_yaml(part / "config.yaml")
    sizes = {"k16": 16, "k64": 64, "k256": 256}
    study["codebook"] = {name: {"num_codes": codes} for name, codes in sizes.items()}
    for name in sizes:
        for suffix, dims in (("", 8), ("-plain", 0)):
            experiment = {"system": "qrvc", "codebook": name, "resynthesis": {"variation_dim": dims}}
            study["experiments"][f"qrvc-{name}{suffix}"] = experiment
    wide = {"system": "qrvc", "codebook": "k64", "resynthesis": {"variation_dim": 16}}
    study["experiments"]["qrvc-wide"] = wide
    write_text(part / "config.yaml", dump_config(parse_config(study)))
    path = part / "evaluation/summary.parquet"
    table = read_table(path)
    scored = [name for name in study["experiments"] if name.startswith("qrvc-")]
    more = [table[table["experiment"] == "knnvc"].assign(experiment=name) for name in scored]
    write_table(path, pd.concat([table, *more], ignore_index=True), IDENTITY)
    text = write(part, tmp_path / "report", players=0).read_text(encoding="utf-8")
    assert "Size of the codebook" in text and "QR-VC: SECS over the size of the codebook" in text
    figure = text[text.index("Size of the codebook</h3>") :]
    figure = figure[: figure.index("</figure>")]
    assert figure.count(">with compensation<") == figure.count(">without<") == 1
    assert "qrvc-wide" not in figure


def test_the_residual_of_a_codebook_that_a_system_uses_is_on_the_page(run: Path, tmp_path: Path) -> None:
    part = tmp_path / "run"
    shutil.copytree(run, part)
    study = read_yaml(part / "config.yaml")
    study["experiments"]["qrvc"] = {"system": "qrvc", "codebook": "k16"}
    write_text(part / "config.yaml", dump_config(parse_config(study)))
    fake_residual(part / "codebook" / "k16")
    page = write(part, tmp_path / "report", players=0)
    text = Page(page).text
    assert "It holds 12.3 % of the features' energy" in text
    assert "those that phones " + " ".join(EVIL.split()) + " recognizes" in text
    source = page.read_text(encoding="utf-8")
    section = source[source.index("Residual of the quantization") :]
    assert section[: section.index("</section>")].count("<figure") == 2


def test_weights_from_elsewhere_are_named_once(run: Path) -> None:
    study = read_yaml(run / "config.yaml")
    for name in ("one", "two"):
        study["experiments"][name] = {"system": "knnvc", "vocoder": "bundled:nano-vocoder"}
    found = [weights for weights in list_weights(run_of(run, study)) if weights.role == "vocoder"]
    assert [(weights.name, len(weights.sha256)) for weights in found] == [("bundled:nano-vocoder", 64)]
