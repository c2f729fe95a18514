"""Lists of trials that others published, read and written.

* ``freevc`` (FreeVC, QR-VC): one line per trial, ``title|source file|target file``; the target file is the reference.
* ``linearvc``: CSV with ``src_speaker,tgt_speaker,x_path,y_path,label``; rows of label 0 are conversions, ``x_path`` is
  ``source utterance/target speaker`` and ``y_path`` the real utterance that conversions are compared with. References are
  the target's other speech, as there.
* ``seed-tts-eval``: one line per trial of ``meta.lst``, ``name|prompt text|prompt file|text|source file``. Lists of four
  fields are for synthesis from text and name no source.
* ``versa``: a folder of Kaldi tables: ``source.scp`` and ``reference.scp`` (name and file), ``text``; written with
  ``pred.scp`` where there are conversions, which VERSA's scorer takes as ``--pred``, and ``gt.scp``, its ``--gt``.

Files are found in the manifest by utterance id, path, or the end of the path without its suffix. What a list does not
name (held-out utterance, third speaker) is drawn by the seed from the target's other speech.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from bowerbird.artifacts.files import write_text
from bowerbird.artifacts.tables import read_table
from bowerbird.config.sections.trials import TrialsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.trial_rows import Trial, UtteranceTable, have_same_words, trial_generator, trial_table

FORMATS = ("freevc", "linearvc", "seed-tts-eval", "versa")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ListedTrial:
    """A trial as a list has it: names of files or ids, "" and [] where it has none."""

    name: str
    source: str
    references: list[str] = field(default_factory=list)
    heldout: str = ""
    target_speaker: str = ""


def read_list(path: Path, form: str) -> list[ListedTrial]:
    """The trials of a published list, in its order; an error where it cannot be read or is empty."""
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
    """(number, text) of the lines of a file that are not empty."""
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
    """(name, rest of the line) of a Kaldi table."""
    for number, line in _lines(path):
        name, _, rest = line.partition(" ")
        if not rest.strip():
            raise BowerbirdError(f"{path}, line {number}: {line!r} names no file")
        yield name, rest.strip()


_READERS: Mapping[str, Callable[[Path], list[ListedTrial]]] = {
    "freevc": _read_freevc,
    "linearvc": _read_linearvc,
    "seed-tts-eval": _read_seed,
    "versa": _read_versa,
}


def read_trials(manifest: pd.DataFrame, options: TrialsConfig) -> pd.DataFrame:
    """The trials of `trials.file` over all utterances of ``manifest``, in the order of their ids.

    Raises `BowerbirdError` where the list names what the manifest does not have, or a trial twice.
    """
    path = Path(options.file).expanduser()
    utterances = UtteranceTable(manifest)
    finder = UtteranceFinder(utterances)
    trials = [_complete(entry, utterances, finder, options) for entry in read_list(path, options.file_format)]
    counts = Counter(trial.trial_id for trial in trials)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise BowerbirdError(f"trials.file: {path}: the trial {twice[0]!r} is in it {counts[twice[0]]} times")
    return trial_table(trials, utterances)


class UtteranceFinder:
    """Finds utterances by what lists call them: the id, the path, or the end of the path without its suffix."""

    def __init__(self, utterances: UtteranceTable) -> None:
        self._known: dict[str, set[str]] = {}
        for utt_id, row in utterances.rows.items():
            parts = PurePosixPath(row["path"]).with_suffix("").parts
            ends = {"/".join(parts[-count:]) for count in range(1, len(parts) + 1)}
            for key in {utt_id, row["path"], *ends}:
                self._known.setdefault(key, set()).add(utt_id)

    def find(self, name: str) -> str:
        """The id of the utterance that a list calls ``name``; an error where there is none, or where there are several."""
        name = name.strip()
        parts = PurePosixPath(name).with_suffix("").parts if "/" in name or "." in name else (name,)
        for key in (name, *("/".join(parts[start:]) for start in range(len(parts)))):
            found = self._known.get(key, set())
            if len(found) > 1:
                raise BowerbirdError(f"trials.file: {name!r}: {len(found)} utterances of the manifest are called so")
            if found:
                return next(iter(found))
        raise BowerbirdError(f"trials.file: {name!r}: no such utterance in the manifest; is it another corpus?")


def _complete(entry: ListedTrial, utterances: UtteranceTable, finder: UtteranceFinder, options: TrialsConfig) -> Trial:
    """The trial of one entry; what the list leaves open is drawn by the seed and the trial's name."""
    source, references = finder.find(entry.source), [finder.find(name) for name in entry.references]
    heldout = finder.find(entry.heldout) if entry.heldout else ""
    target = _target_of(entry, utterances, [*references, *([heldout] if heldout else [])])
    row = utterances.rows[source]
    name = entry.name or f"{source}--{target}"
    if not _NAME.fullmatch(name):
        raise BowerbirdError(
            f"trials.file: {name!r}: a trial's name becomes a file; use letters, digits, '.', '-', '_'"
        )
    generator = trial_generator(options.seed, name)
    free = [
        utt_id
        for utt_id in utterances.shuffled(target, generator)
        if utt_id not in (*references, heldout) and not have_same_words(utterances.rows[utt_id], row)
    ]
    if not heldout:
        if not free:
            raise BowerbirdError(f"trials.file: {name}: {target!r} has no further utterance that can be held out")
        heldout, *free = free
    prompt_s = math.inf  # of references that the list names, all of them
    if not references:
        prompt_s, references = options.reference_s, utterances.take_references(free, options.reference_s)
        if not references:
            raise BowerbirdError(f"trials.file: {name}: {target!r} has no further utterance that can be a reference")
    others = utterances.others_than(row["speaker"], target)
    if not others:
        raise BowerbirdError(f"trials.file: {name}: the manifest has no third speaker for the lower anchor")
    return Trial(name, source, references, heldout, utterances.draw_from(others, generator), "listed", prompt_s)


def _target_of(entry: ListedTrial, utterances: UtteranceTable, named: list[str]) -> str:
    """The target speaker: the one that the list names, if the manifest has it, or the speaker of the ``named`` utterances."""
    target = entry.target_speaker
    if target not in utterances.of_speaker:
        if not named:
            raise BowerbirdError(f"trials.file: {target!r}: no such speaker in the manifest; is it another corpus?")
        target = utterances.rows[named[0]]["speaker"]
    strange = next((utt_id for utt_id in named if utterances.rows[utt_id]["speaker"] != target), None)
    if strange is not None:
        speaker = utterances.rows[strange]["speaker"]
        raise BowerbirdError(f"trials.file: {strange!r} is of {speaker!r}, not of {target!r}")
    return target


def export_trials(
    trials: Path, manifest: Path, output: Path, list_format: str = "freevc", conversion: Path | None = None
) -> None:
    """Write trials as a list that other tools read; where a list has one reference only, it is the first.

    ``output`` is a file, of format versa a folder. ``conversion`` is trials.parquet of an experiment, whose files VERSA scores.
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
            heldout = PurePosixPath(paths[t["heldout_utt"]]).with_suffix("").as_posix()
            lines.append(f"{speakers},{t['source_utt']}/{t['target_speaker']},{heldout},0")
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
