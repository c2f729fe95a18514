"""Layouts that any corpus may have: a tree of folders, a table, a Kaldi data directory."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from bowerbird.config.messages import nearest
from bowerbird.config.sections.corpus import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, CorpusConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.entries import CorpusEntry, Listing, Refusal
from bowerbird.stages.corpus.file_trees import audio_below, read_text, subset_folders

GENDERS = {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M", "": ""}
SPLITS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "eval": "test",
    "": "",
}


def read_folder(root: Path, options: CorpusConfig) -> Listing:
    """List ``speaker/.../name.wav``: the first folder is the speaker, further ones are the session."""
    entries, refusals = [], []
    for folder in subset_folders(root, options):
        for path in audio_below(folder):
            parts, place = path.relative_to(folder).parts, str(path.relative_to(root))
            stem = "-".join([*parts[:-1], path.stem])
            if len(parts) < 2:
                refusals.append(Refusal(stem, place, "lies above the speaker folders", "expected speaker/.../name.wav"))
            else:
                entries.append(CorpusEntry(stem, parts[0], place, session="/".join(parts[1:-1])))
    return root, entries, refusals


def read_table_file(path: Path, options: CorpusConfig) -> Listing:
    """List a table (TSV, CSV, Parquet; a folder stands for its ``utterances.tsv``) with named columns.

    Relative paths start from the table's folder (or ``audio_root``) and stay below it; absolute ones are taken as given.
    """
    file = path / "utterances.tsv" if path.is_dir() else path
    if not file.exists():
        raise BowerbirdError(f"corpus.path: {file}: no such table; a folder of kind 'table' holds utterances.tsv")
    root = Path(options.audio_root).expanduser() if options.audio_root else file.parent
    table = _named_columns(_load_table(file), file, options)
    unknown = sorted(set(table["split"].str.lower()) - set(SPLITS))
    if unknown:
        raise BowerbirdError(f"{file}: split {unknown[0]!r} is not one of train, valid, test")
    entries, refusals = [], []
    for row in table.to_dict("records"):
        item = _entry_of({str(key): value for key, value in row.items()})
        if isinstance(item, Refusal):
            refusals.append(item)
        else:
            entries.append(item)
    return root, entries, refusals


def _load_table(file: Path) -> pd.DataFrame:
    """The table in a file; an error where it cannot be read. In a TSV quotes have no meaning."""
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        if file.suffix == ".csv":
            return pd.read_csv(file, sep=",", dtype=str, keep_default_na=False)
        return pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False, quoting=3)
    except (OSError, ValueError) as error:
        raise BowerbirdError(f"{file}: not readable as a table ({' '.join(str(error).split())})") from error


def _named_columns(table: pd.DataFrame, file: Path, options: CorpusConfig) -> pd.DataFrame:
    """Our columns, as text, out of a table of ``file``; optional ones that it does not have are empty."""
    for ours in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS):
        theirs = options.columns.get(ours, ours)
        if theirs in table.columns:
            table[ours] = table[theirs]
        elif ours in REQUIRED_COLUMNS or ours in options.columns:
            present = ", ".join(map(str, table.columns))
            raise BowerbirdError(
                f"{file}: no column {theirs!r} for {ours}{nearest(theirs, map(str, table.columns))} (it has: {present}); "
                "name it in corpus.columns"
            )
        else:
            table[ours] = ""
    return table[[*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS]].fillna("").astype(str)


def _entry_of(row: dict[str, str]) -> CorpusEntry | Refusal:
    """The entry of a row of a table, or the reason to refuse it."""
    path = Path(row["path"])
    if not row["utt_id"] or not row["speaker"]:
        return Refusal(row["utt_id"], row["path"], "incomplete row", "utt_id and speaker must be given")
    if not row["path"] or not (path.is_absolute() or ".." not in path.parts):
        detail = "a relative path must stay below the folder it starts from"
        return Refusal(row["utt_id"], row["path"], "path outside the corpus", detail)
    gender, split = GENDERS.get(row["gender"].strip().lower(), ""), SPLITS[row["split"].lower()]
    return CorpusEntry(**{**row, "gender": gender, "split": split})


def read_kaldi_table(file: Path, is_required: bool = True) -> dict[str, str]:
    """A Kaldi table: the first word of each line, and the rest of the line; {} where an optional one is not there."""
    if not file.exists():
        if is_required:
            raise BowerbirdError(f"{file}: a Kaldi data directory holds it")
        return {}
    lines = (line.strip().split(maxsplit=1) for line in read_text(file).splitlines())
    return {parts[0]: parts[1] if len(parts) > 1 else "" for parts in lines if parts}


def read_kaldi(root: Path, options: CorpusConfig) -> Listing:
    """List a Kaldi data directory: wav.scp, utt2spk, text, spk2gender, and segments, by which recordings are cut.

    Commands in wav.scp are refused, never run.
    """
    speakers, texts = read_kaldi_table(root / "utt2spk"), read_kaldi_table(root / "text", is_required=False)
    genders = read_kaldi_table(root / "spk2gender", is_required=False)
    recordings, has_segments = read_kaldi_table(root / "wav.scp"), (root / "segments").exists()
    entries, refusals = [], []
    for utt_id, rest in (read_kaldi_table(root / "segments") if has_segments else recordings).items():
        recording, span = _segment(rest) if has_segments else (utt_id, "")
        place = recordings.get(recording, "")
        if span is None:
            refusals.append(Refusal(utt_id, rest, "unusable segment", "expected: utt_id recording_id start_s end_s"))
        elif recording not in recordings:
            refusals.append(Refusal(utt_id, rest, "unknown recording", f"{recording} is not in wav.scp"))
        elif place.endswith("|") or place.startswith("|"):
            detail = "commands are not run; write the audio to files"
            refusals.append(Refusal(utt_id, place, "command in wav.scp", detail))
        elif utt_id not in speakers:
            refusals.append(Refusal(utt_id, place, "unknown speaker", "not in utt2spk"))
        else:
            speaker, session = speakers[utt_id], recording if has_segments else ""
            gender = GENDERS.get(genders.get(speaker, "").lower(), "")
            text = texts.get(utt_id, "")
            entries.append(CorpusEntry(utt_id, speaker, place + span, gender, session=session, text=text))
    return root, entries, refusals


def _segment(line: str) -> tuple[str, str | None]:
    """Recording and span of ``recording start end``: ``#t=1.5,4``; the span is None where the line cannot be used.

    An end of -1 is that of the recording.
    """
    recording, *times = line.split() or [""]
    try:
        start, end = map(float, times)
    except ValueError:  # not numbers, or not two: a third one is a channel, which is not cut out here
        return recording, None
    if not (0 <= start < math.inf and (start < end < math.inf or end == -1)):
        return recording, None
    first, last = (f"{seconds:.6f}".rstrip("0").rstrip(".") for seconds in (start, end))
    return recording, f"#t={first}" if end == -1 else f"#t={first},{last}"
