"""Layouts of corpora on disk: each reader lists entries (an id, a speaker, a file) and what it had to refuse."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from bowerbird.audio import SUFFIXES
from bowerbird.config.messages import nearest
from bowerbird.config.paths import bundled
from bowerbird.config.sections.corpus import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, CorpusConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.entries import CorpusEntry, Listing, Refusal

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


def read_entries(options: CorpusConfig) -> Listing:
    """Root folder, entries sorted bytewise by id, and refusals of the corpus that the options name."""
    path = Path(bundled(options.path)).expanduser()
    if not path.exists():
        raise BowerbirdError(
            f"corpus.path: {options.path}: no such file or folder; give the corpus of kind {options.kind!r}"
        )
    if _printable(str(path)) != str(path):
        raise BowerbirdError(f"corpus.path: {_printable(str(path))}: its name is not UTF-8; rename the folder")
    root, entries, refusals = READERS[options.kind](path, options)
    if not entries:
        raise BowerbirdError(
            f"corpus.path: {path}: no utterances found as kind {options.kind!r}; {HINTS[options.kind]}"
        )
    unique: dict[str, CorpusEntry] = {}
    for entry in sorted(entries, key=lambda e: (_as_bytes(e.utt_id), _as_bytes(e.path))):
        if any(_printable(field) != field for field in vars(entry).values()):
            refusals.append(Refusal(entry.utt_id, entry.path, "name is not UTF-8", "rename the file or its folder"))
        elif "/" in entry.utt_id or entry.utt_id.startswith("."):
            refusals.append(
                Refusal(entry.utt_id, entry.path, "unusable id", "ids become file names: no '/', no leading '.'")
            )
        elif entry.utt_id in unique:
            refusals.append(
                Refusal(entry.utt_id, entry.path, "duplicate id", f"first seen at {unique[entry.utt_id].path}")
            )
        else:
            unique[entry.utt_id] = entry
    return root, list(unique.values()), [Refusal(*map(_printable, vars(r).values())) for r in refusals]


def _printable(name: str) -> str:
    r"""A name as UTF-8 can hold it: bytes of a file name that are not UTF-8 become ``\xe9``."""
    return _as_bytes(name).decode("utf-8", "backslashreplace")


def _as_bytes(name: str | Path) -> bytes:
    """What names are sorted by."""
    return str(name).encode("utf-8", "surrogateescape")


def _read_text(file: Path) -> str:
    """A text file, or one line about what it is instead."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BowerbirdError(f"{file}: not readable as UTF-8 text ({error}); convert it") from error


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, each with the names of its files; links are followed, unless to a folder they lie in."""

    def stop(error: OSError) -> None:
        raise BowerbirdError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    real = Path(os.path.realpath(folder))
    around = {str(folder): frozenset(map(str, (real, *real.parents)))}  # the real folders that a folder lies in
    for here, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        above = around.pop(here)
        places = {name: os.path.realpath(os.path.join(here, name)) for name in folders}
        folders[:] = [name for name in folders if places[name] not in above]
        around |= {os.path.join(here, name): above | {places[name]} for name in folders}
        yield Path(here), files


def folders_below(folder: Path) -> list[Path]:
    """A folder and all that are below it, in bytewise order; none where there is no such folder."""
    return sorted((here for here, _ in _walk(folder)), key=_as_bytes) if folder.is_dir() else []


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files below a folder whose names end in one of ``suffixes`` (in any case), in bytewise order of their paths."""
    if not folder.is_dir():
        return []
    found = (here / name for here, names in _walk(folder) for name in names if name.lower().endswith(suffixes))
    return sorted(found, key=_as_bytes)


def audio_below(folder: Path) -> list[Path]:
    """Audio files below a folder, in bytewise order of their paths."""
    return [path for path in files_below(folder, SUFFIXES) if path.suffix]


def _subfolders(root: Path, options: CorpusConfig) -> list[Path]:
    """The subsets the options name, or the root itself."""
    for name in options.subsets:
        if not (root / name).is_dir():
            known = sorted(p.name for p in root.iterdir() if p.is_dir())
            raise BowerbirdError(f"corpus.subsets: {name!r} is not below {root}{nearest(name, known)}")
    return [root / name for name in options.subsets] or [root]


def read_folder(root: Path, options: CorpusConfig) -> Listing:
    """``speaker/.../name.wav``: the first folder is the speaker, further ones the session."""
    entries, refusals = [], []
    for folder in _subfolders(root, options):
        for path in audio_below(folder):
            parts, place = path.relative_to(folder).parts, str(path.relative_to(root))
            stem = "-".join([*parts[:-1], path.stem])
            if len(parts) < 2:
                refusals.append(Refusal(stem, place, "lies above the speaker folders", "expected speaker/.../name.wav"))
            else:
                entries.append(CorpusEntry(stem, parts[0], place, session="/".join(parts[1:-1])))
    return root, entries, refusals


def read_table_file(path: Path, options: CorpusConfig) -> Listing:
    """A table (TSV, CSV, Parquet; a folder stands for its ``utterances.tsv``) with named columns.

    Relative paths start from the table's folder (or ``audio_root``) and stay below it; absolute ones are taken as given.
    """
    file = path / "utterances.tsv" if path.is_dir() else path
    if not file.exists():
        raise BowerbirdError(f"corpus.path: {file}: no such table; a folder of kind 'table' holds utterances.tsv")
    root = Path(options.audio_root).expanduser() if options.audio_root else file.parent
    try:
        if file.suffix == ".parquet":
            table = pd.read_parquet(file)
        else:
            separator = "," if file.suffix == ".csv" else "\t"
            table = pd.read_csv(
                file, sep=separator, dtype=str, keep_default_na=False, quoting=0 if separator == "," else 3
            )
    except (OSError, ValueError) as error:
        raise BowerbirdError(f"{file}: not readable as a table ({' '.join(str(error).split())})") from error
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
    unknown = sorted(set(table["split"].fillna("").str.lower()) - set(SPLITS))
    if unknown:
        raise BowerbirdError(f"{file}: split {unknown[0]!r} is not one of train, valid, test")
    entries, refusals = [], []
    for row in table[[*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS]].fillna("").astype(str).to_dict("records"):
        path = Path(row["path"])
        usable = row["path"] and (path.is_absolute() or ".." not in path.parts)
        if not row["utt_id"] or not row["speaker"]:
            refusals.append(Refusal(row["utt_id"], row["path"], "incomplete row", "utt_id and speaker must be given"))
        elif not usable:
            refusals.append(
                Refusal(
                    row["utt_id"],
                    row["path"],
                    "path outside the corpus",
                    "a relative path must stay below the folder it starts from",
                )
            )
        else:
            row["gender"] = GENDERS.get(row["gender"].strip().lower(), "")
            row["split"] = SPLITS[row["split"].lower()]
            entries.append(CorpusEntry(**{str(k): v for k, v in row.items()}))
    return root, entries, refusals


def _pairs(file: Path, required: bool = True) -> dict[str, str]:
    """A Kaldi table: first word -> the rest of the line."""
    if not file.exists():
        if required:
            raise BowerbirdError(f"{file}: a Kaldi data directory holds it")
        return {}
    lines = (line.strip().split(maxsplit=1) for line in _read_text(file).splitlines())
    return {parts[0]: parts[1] if len(parts) > 1 else "" for parts in lines if parts}


def read_kaldi(root: Path, options: CorpusConfig) -> Listing:
    """A Kaldi data directory: wav.scp, utt2spk, text, spk2gender, and segments, by which recordings are cut.

    Commands in wav.scp are refused, never run.
    """
    speakers, texts = _pairs(root / "utt2spk"), _pairs(root / "text", required=False)
    genders = _pairs(root / "spk2gender", required=False)
    recordings, cut = _pairs(root / "wav.scp"), (root / "segments").exists()
    entries, refusals = [], []
    for utt_id, rest in (_pairs(root / "segments") if cut else recordings).items():
        recording, span = _segment(rest) if cut else (utt_id, "")
        place = recordings.get(recording, "")
        if span is None:
            refusals.append(Refusal(utt_id, rest, "unusable segment", "expected: utt_id recording_id start_s end_s"))
        elif recording not in recordings:
            refusals.append(Refusal(utt_id, rest, "unknown recording", f"{recording} is not in wav.scp"))
        elif place.endswith("|") or place.startswith("|"):
            refusals.append(
                Refusal(utt_id, place, "command in wav.scp", "commands are not run; write the audio to files")
            )
        elif utt_id not in speakers:
            refusals.append(Refusal(utt_id, place, "unknown speaker", "not in utt2spk"))
        else:
            speaker, session = speakers[utt_id], recording if cut else ""
            gender = GENDERS.get(genders.get(speaker, "").lower(), "")
            entries.append(
                CorpusEntry(utt_id, speaker, place + span, gender, session=session, text=texts.get(utt_id, ""))
            )
    return root, entries, refusals


def _segment(line: str) -> tuple[str, str | None]:
    """Recording and span (``#t=1.5,4``; an end of -1 is the recording's) of ``recording start end``, None if unusable."""
    recording, *times = line.split() or [""]
    try:
        start, end = map(float, times)
    except ValueError:  # not numbers, or not two: a third one is a channel, which is not cut out here
        return recording, None
    if not (0 <= start < math.inf and (start < end < math.inf or end == -1)):
        return recording, None
    first, last = (f"{seconds:.6f}".rstrip("0").rstrip(".") for seconds in (start, end))
    return recording, f"#t={first}" if end == -1 else f"#t={first},{last}"


def _librispeech_genders(root: Path) -> dict[str, str]:
    """SPEAKERS.TXT (LibriSpeech) or speakers.tsv (LibriTTS): id -> F or M."""
    for name in ("SPEAKERS.TXT", "SPEAKERS.txt", "speakers.tsv"):
        for folder in (root, root.parent):
            if (folder / name).exists():
                lines = _read_text(folder / name).splitlines()
                fields = [re.split(r"\s*\|\s*|\t", line) for line in lines if line and line[0] not in ";R"]
                return {f[0].strip(): f[1].strip().upper() for f in fields if len(f) > 1}
    return {}


def _subset_split(path: Path, root: Path) -> str:
    """LibriSpeech's own split from the subset's name: train-clean-100, dev-clean, test-other."""
    subset = path.relative_to(root).parts[0]
    return next((split for prefix, split in SPLITS.items() if prefix and subset.startswith(prefix)), "")


def _chapter_entry(
    root: Path, path: Path, genders: dict[str, str], language: str, text: str, split: str
) -> CorpusEntry:
    """An utterance of LibriSpeech and its kin, which lies at ``.../speaker/chapter/name``."""
    speaker, chapter = path.parent.parent.name, path.parent.name
    place = str(path.relative_to(root))
    return CorpusEntry(path.stem, speaker, place, genders.get(speaker, ""), language, chapter, text, split)


def read_librispeech(root: Path, options: CorpusConfig) -> Listing:
    """``subset/speaker/chapter/speaker-chapter-number.flac`` and ``speaker-chapter.trans.txt``."""
    genders = _librispeech_genders(root)
    entries = []
    for folder in _subfolders(root, options):
        texts: dict[str, str] = {}
        for transcript in files_below(folder, (".trans.txt",)):
            texts |= _pairs(transcript)
        for path in audio_below(folder):
            text, split = texts.get(path.stem, ""), _subset_split(path, root)
            entries.append(_chapter_entry(root, path, genders, "en", text, split))
    return root, entries, []


def read_libritts(root: Path, options: CorpusConfig) -> Listing:
    """``subset/speaker/chapter/name.wav`` with ``name.normalized.txt`` beside it (LibriTTS and LibriTTS-R)."""
    genders = _librispeech_genders(root)
    entries = []
    for folder in _subfolders(root, options):
        for path in audio_below(folder):
            beside = path.with_name(f"{path.stem}.normalized.txt")
            text = _read_text(beside).strip() if beside.exists() else ""
            entries.append(_chapter_entry(root, path, genders, "en", text, _subset_split(path, root)))
    return root, entries, []


def read_vctk(root: Path, options: CorpusConfig) -> Listing:
    """VCTK 0.92: ``wav48_silence_trimmed/p225/p225_001_mic1.flac``, ``txt/p225/p225_001.txt``, ``speaker-info.txt``."""
    info = root / "speaker-info.txt"
    lines = _read_text(info).splitlines()[1:] if info.exists() else []
    genders = {fields[0]: GENDERS.get(fields[2].lower(), "") for fields in map(str.split, lines) if len(fields) > 2}
    entries = []
    for path in audio_below(root / "wav48_silence_trimmed"):
        name, _, microphone = path.stem.rpartition("_")
        if microphone != options.microphone:
            continue
        speaker = path.parent.name
        text = root / "txt" / speaker / f"{name}.txt"
        entries.append(
            CorpusEntry(
                name,
                speaker,
                str(path.relative_to(root)),
                genders.get(speaker, ""),
                "en",
                text=_read_text(text).strip() if text.exists() else "",
            )
        )
    return root, entries, []


MLS_LANGUAGES = {
    "german": "de",
    "dutch": "nl",
    "french": "fr",
    "spanish": "es",
    "italian": "it",
    "portuguese": "pt",
    "polish": "pl",
    "english": "en",
}


def read_mls(root: Path, options: CorpusConfig) -> Listing:
    """MLS: ``mls_polish/{train,dev,test}/audio/speaker/book/speaker_book_number.opus``, ``transcripts.txt``, ``metainfo.txt``.

    The language is the one in the name of the corpus folder, which is the folder above train, dev and test.
    """
    genders: dict[str, str] = {}
    for info in sorted([*root.glob("metainfo.txt"), *root.glob("*/metainfo.txt")]):
        for line in _read_text(info).splitlines()[1:]:
            fields = [field.strip() for field in line.split("|")]
            if len(fields) > 1:
                genders[fields[0]] = GENDERS.get(fields[1].lower(), "")
    entries = []
    for folder in (f for base in _subfolders(root, options) for f in folders_below(base) if (f / "audio").is_dir()):
        texts = _pairs(folder / "transcripts.txt", required=False)
        corpus = re.match("mls_([a-z]+)", Path(os.path.abspath(folder)).parent.name.lower())
        language = MLS_LANGUAGES.get(corpus[1], "") if corpus else ""
        for path in audio_below(folder / "audio"):
            text, split = texts.get(path.stem, ""), SPLITS.get(folder.name, "")
            entries.append(_chapter_entry(root, path, genders, language or options.language, text, split))
    return root, entries, []


READERS: dict[str, Callable[[Path, CorpusConfig], Listing]] = {
    "folder": read_folder,
    "table": read_table_file,
    "kaldi": read_kaldi,
    "librispeech": read_librispeech,
    "libritts": read_libritts,
    "vctk": read_vctk,
    "mls": read_mls,
}


HINTS = {
    "folder": "expected speaker/.../name.wav",
    "table": "the table has no rows",
    "kaldi": "expected wav.scp and utt2spk",
    "librispeech": "expected subset/speaker/chapter/name.flac",
    "libritts": "expected subset/speaker/chapter/name.wav",
    "vctk": "expected wav48_silence_trimmed/speaker/name_mic1.flac",
    "mls": "expected {train,dev,test}/audio/speaker/book/name.flac",
}
