"""Lists of trials that others published, read and written.

* ``freevc`` (FreeVC, QR-VC): a line a trial, ``title|source file|target file``; the target file is the reference.
* ``linearvc``: CSV with ``src_speaker,tgt_speaker,x_path,y_path,label``; rows of label 0 are conversions, ``x_path`` is
  ``source utterance/target speaker`` and ``y_path`` the real utterance that the judge compares with. References are the
  target's other speech, as there.
* ``seed-tts-eval``: a line a trial of ``meta.lst``, ``name|prompt text|prompt file|text|source file``. Lists of four
  fields are for synthesis from text and name no source.
* ``versa``: a folder with Kaldi tables: ``source.scp`` and ``reference.scp`` (name and file), ``text``; written with
  ``pred.scp`` where there are conversions, which is what VERSA's scorer takes as ``--pred``, and ``gt.scp``, its ``--gt``.

Files are found in the manifest by utterance id, path, or the end of the path without its suffix. What a list does not
name (held-out utterance, third speaker) is drawn by the seed from the target's other speech.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.artifacts.files import write_text
from bowerbird.artifacts.tables import TRIALS, read_table
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.draw_trials import _same_words, take_references

FORMATS = ("freevc", "linearvc", "seed-tts-eval", "versa")


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ListedTrial:
    """A trial as a list names it: files or ids, "" and [] where it names none."""

    name: str
    source: str
    references: list[str] = field(default_factory=list)
    heldout: str = ""
    target_speaker: str = ""


def read_list(path: Path, form: str) -> list[ListedTrial]:
    """The trials of a published list, in its order."""
    if form not in FORMATS:
        raise BowerbirdError(f"trials.file_format: {form!r}: no such format; known: {', '.join(FORMATS)}")
    try:
        entries = _READERS[form](path)
    except OSError as error:
        raise BowerbirdError(f"trials.file: {path}: cannot be read ({error.strerror})") from error
    if not entries:
        raise BowerbirdError(f"trials.file: {path}: no trials of format {form} in it")
    return entries


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _read_freevc(path: Path) -> list[ListedTrial]:
    entries = []
    for number, line in _lines(path):
        parts = line.split("|")
        if len(parts) != 3:
            raise BowerbirdError(f"{path}, line {number}: {len(parts)} fields; a trial is title|source|target")
        entries.append(ListedTrial(parts[0], parts[1], [parts[2]]))
    return entries


def _read_linearvc(path: Path) -> list[ListedTrial]:
    with open(path, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    columns = {"src_speaker", "tgt_speaker", "x_path", "y_path", "label"}
    if rows and not columns <= rows[0].keys():
        raise BowerbirdError(f"{path}: has no column {sorted(columns - rows[0].keys())[0]!r}; LinearVC's lists do")
    entries = []
    for row in (r for r in rows if r["label"].strip() == "0"):
        source = PurePosixPath(row["x_path"]).parent.as_posix()
        entries.append(ListedTrial("", source, heldout=row["y_path"], target_speaker=row["tgt_speaker"]))
    return entries


def _read_seed(path: Path) -> list[ListedTrial]:
    entries = []
    for number, line in _lines(path):
        parts = line.split("|")
        if len(parts) != 5:
            raise BowerbirdError(
                f"{path}, line {number}: {len(parts)} fields; a conversion is name|prompt text|prompt|text|source, and "
                "lists of four fields are for synthesis from text"
            )
        entries.append(ListedTrial(parts[0], parts[4], [parts[2]]))
    return entries


def _read_versa(path: Path) -> list[ListedTrial]:
    sources, references = (dict(_table(path / name)) for name in ("source.scp", "reference.scp"))
    missing = sorted(set(sources) ^ set(references))
    if missing:
        raise BowerbirdError(f"{path}: {missing[0]!r} is in one of source.scp and reference.scp only")
    return [ListedTrial(name, sources[name], references[name].split()) for name in sources]


def _table(path: Path) -> Iterable[tuple[str, str]]:
    for number, line in _lines(path):
        name, _, rest = line.partition(" ")
        if not rest.strip():
            raise BowerbirdError(f"{path}, line {number}: {line!r} names no file")
        yield name, rest.strip()


_READERS = {"freevc": _read_freevc, "linearvc": _read_linearvc, "seed-tts-eval": _read_seed, "versa": _read_versa}


def read_trials(manifest: pd.DataFrame, options: TrialsConfig) -> pd.DataFrame:
    """The trials of `trials.file` over all utterances of ``manifest``, in the order of their ids."""
    path = Path(options.file).expanduser()
    rows = {row["utt_id"]: row for row in manifest.to_dict("records")}
    find = _finder(rows)
    own: dict[str, list[str]] = {}
    for utt_id in sorted(rows, key=str.encode):
        own.setdefault(rows[utt_id]["speaker"], []).append(utt_id)
    trials = [_trial(entry, rows, own, find, options) for entry in read_list(path, options.file_format)]
    names = [trial["trial_id"] for trial in trials]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise BowerbirdError(f"trials.file: {path}: the trial {twice[0]!r} is in it {names.count(twice[0])} times")
    table = pd.DataFrame(trials)[TRIALS.names]
    return table.sort_values("trial_id", key=lambda ids: ids.map(str.encode), ignore_index=True)


def _finder(rows: Mapping[str, Mapping[str, Any]]) -> Any:
    """A function from what a list calls an utterance to its id."""
    known: dict[str, set[str]] = {}
    for utt_id, row in rows.items():
        parts = PurePosixPath(row["path"]).with_suffix("").parts
        ends = {"/".join(parts[-count:]) for count in range(1, len(parts) + 1)}
        for key in {utt_id, row["path"], *ends}:
            known.setdefault(key, set()).add(utt_id)

    def find(name: str) -> str:
        parts = PurePosixPath(name.strip()).with_suffix("").parts if "/" in name or "." in name else (name.strip(),)
        keys = [name.strip(), *("/".join(parts[start:]) for start in range(len(parts)))]
        for key in keys:
            found = known.get(key, set())
            if len(found) == 1:
                return next(iter(found))
            if len(found) > 1:
                raise BowerbirdError(f"trials.file: {name!r}: {len(found)} utterances of the manifest are called so")
        raise BowerbirdError(f"trials.file: {name!r}: no such utterance in the manifest; is it another corpus?")

    return find


def _trial(
    entry: ListedTrial, rows: dict, own: dict[str, list[str]], find: Any, options: TrialsConfig
) -> dict[str, Any]:
    source = rows[find(entry.source)]
    references = [find(name) for name in entry.references]
    heldout = find(entry.heldout) if entry.heldout else ""
    named = entry.target_speaker or rows[(references or [heldout])[0]]["speaker"]
    target = named if named in own else rows[(references or [heldout])[0]]["speaker"]
    strange = [u for u in [*references, *([heldout] if heldout else [])] if rows[u]["speaker"] != target]
    if strange:
        raise BowerbirdError(f"trials.file: {strange[0]!r} is of {rows[strange[0]]['speaker']!r}, not of {target!r}")
    name = entry.name or f"{source['utt_id']}--{target}"
    if not _NAME.fullmatch(name):
        raise BowerbirdError(
            f"trials.file: {name!r}: a trial's name becomes a file; use letters, digits, '.', '-', '_'"
        )
    rng = np.random.Generator(np.random.PCG64([options.seed, *name.encode()]))
    order = [own[target][i] for i in rng.permutation(len(own[target]))]
    free = [u for u in order if u not in (*references, heldout) and not _same_words(rows[u], source)]
    if not heldout:
        if not free:
            raise BowerbirdError(
                f"trials.file: {name}: {target!r} has no further utterance for the judge to compare with"
            )
        heldout, *free = free
    if not references:
        references, _ = take_references(free, rows, options.reference_s)
        if not references:
            raise BowerbirdError(f"trials.file: {name}: {target!r} has no further utterance to hear")
    parallel = [u for u in own[target] if _same_words(rows[u], source) and u not in references]
    third = sorted(set(own) - {source["speaker"], target}, key=str.encode)
    if not third:
        raise BowerbirdError(f"trials.file: {name}: the manifest has no third speaker for the lower anchor")
    stranger = own[third[rng.integers(len(third))]]
    return {
        "trial_id": name,
        "source_utt": source["utt_id"],
        "source_speaker": source["speaker"],
        "source_gender": source["gender"],
        "target_speaker": target,
        "target_gender": rows[heldout]["gender"],
        "reference_utts": references,
        "reference_s": round(sum(rows[u]["duration_s"] for u in references), 4),
        "heldout_utt": heldout,
        "parallel_utt": parallel[0] if parallel else "",
        "random_speaker_utt": stranger[rng.integers(len(stranger))],
        "text": source["text"],
        "language": source["language"],
        "condition": "listed",
    }


def export_trials(
    trials: Path, manifest: Path, output: Path, list_format: str = "freevc", conversion: Path | None = None
) -> None:
    """Write trials as a list that other tools read; of several references the first.

    ``output`` is a file, for versa a folder. ``conversion``: trials.parquet of an experiment, whose files VERSA scores.
    """
    paths = read_table(manifest, ["utt_id", "path"]).set_index("utt_id")["path"].to_dict()
    texts = read_table(manifest, ["utt_id", "text"]).set_index("utt_id")["text"].to_dict()
    rows = read_table(trials).to_dict("records")
    if list_format == "freevc":
        lines = [f"{t['trial_id']}|{paths[t['source_utt']]}|{paths[t['reference_utts'][0]]}" for t in rows]
    elif list_format == "seed-tts-eval":
        lines = []
        for t in rows:
            prompt = t["reference_utts"][0]
            fields = (t["trial_id"], texts[prompt], paths[prompt], t["text"], paths[t["source_utt"]])
            lines.append("|".join(str(value).replace("|", " ") for value in fields))
    elif list_format == "linearvc":
        lines = ["src_speaker,tgt_speaker,x_path,y_path,label"]
        for t in rows:
            speakers = f"{t['source_speaker']},{t['target_speaker']}"
            judged = PurePosixPath(paths[t["heldout_utt"]]).with_suffix("").as_posix()
            lines.append(f"{speakers},{t['source_utt']}/{t['target_speaker']},{judged},0")
    elif list_format == "versa":
        _write_versa(rows, paths, output, conversion)
        return
    else:
        raise BowerbirdError(f"--list-format: {list_format!r}: no such format; known: {', '.join(FORMATS)}")
    write_text(output, "".join(f"{line}\n" for line in lines))


def _write_versa(rows: list[dict[str, Any]], paths: Mapping[str, str], output: Path, conversion: Path | None) -> None:
    tables = {
        "source.scp": [(t["trial_id"], paths[t["source_utt"]]) for t in rows],
        "reference.scp": [(t["trial_id"], " ".join(paths[u] for u in t["reference_utts"])) for t in rows],
        "gt.scp": [(t["trial_id"], paths[t["parallel_utt"] or t["heldout_utt"]]) for t in rows],
        "text": [(t["trial_id"], t["text"]) for t in rows if t["text"]],
    }
    if conversion is not None:
        made = read_table(conversion).to_dict("records")
        failed = [row["trial_id"] for row in made if row["status"] != "ok"]
        if failed:
            raise BowerbirdError(
                f"{conversion}: {len(failed)} trials failed (first: {failed[0]}); VERSA would leave them out of its means"
            )
        tables["pred.scp"] = [(row["trial_id"], str(conversion.parent / row["path"])) for row in made]
    for name, lines in tables.items():
        write_text(output / name, "".join(f"{key} {value}\n" for key, value in sorted(lines)))
