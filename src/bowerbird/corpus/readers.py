"""Layouts of corpora on disk: each reader lists entries (an id, a speaker, a file) and what it had to refuse."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bowerbird.artifacts import BowerbirdError
from bowerbird.audio import SUFFIXES
from bowerbird.config import CorpusConfig, _nearest, bundled
from bowerbird.corpus.checks import Refusal

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


@dataclass(frozen=True)
class Entry:
    """One utterance as its corpus lists it; ``path`` is relative to the corpus root, or absolute."""

    utt_id: str
    speaker: str
    path: str
    gender: str = ""
    language: str = ""
    session: str = ""
    text: str = ""
    split: str = ""


Listing = tuple[Path, list[Entry], list[Refusal]]


def read_entries(options: CorpusConfig) -> Listing:
    """Root folder, entries sorted bytewise by id, and refusals of the corpus that the options name."""
    path = Path(bundled(options.path)).expanduser()
    if not path.exists():
        raise BowerbirdError(
            f"corpus.path: {options.path}: no such file or folder; give the corpus of kind {options.kind!r}"
        )
    root, entries, refusals = READERS[options.kind](path, options)
    if not entries:
        raise BowerbirdError(
            f"corpus.path: {path}: no utterances found as kind {options.kind!r}; {HINTS[options.kind]}"
        )
    unique: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda e: (e.utt_id.encode(), e.path)):
        if "/" in entry.utt_id or entry.utt_id.startswith("."):
            refusals.append(
                Refusal(entry.utt_id, entry.path, "unusable id", "ids become file names: no '/', no leading '.'")
            )
        elif entry.utt_id in unique:
            refusals.append(
                Refusal(entry.utt_id, entry.path, "duplicate id", f"first seen at {unique[entry.utt_id].path}")
            )
        else:
            unique[entry.utt_id] = entry
    return root, list(unique.values()), refusals


def audio_below(folder: Path) -> list[Path]:
    """Audio files below a folder, in bytewise order of their paths."""
    return sorted((p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES), key=lambda p: str(p).encode())


def _subfolders(root: Path, options: CorpusConfig) -> list[Path]:
    """The subsets the options name, or the root itself."""
    for name in options.subsets:
        if not (root / name).is_dir():
            known = sorted(p.name for p in root.iterdir() if p.is_dir())
            raise BowerbirdError(f"corpus.subsets: {name!r} is not below {root}{_nearest(name, known)}")
    return [root / name for name in options.subsets] or [root]


def read_folder(root: Path, options: CorpusConfig) -> Listing:
    """``speaker/.../name.wav``: the first folder is the speaker, further ones the session."""
    entries = []
    for folder in _subfolders(root, options):
        for path in audio_below(folder):
            parts = path.relative_to(folder).parts
            if len(parts) < 2:
                continue  # a file at the top belongs to no speaker
            stem = "-".join([*parts[:-1], path.stem])
            entries.append(Entry(stem, parts[0], str(path.relative_to(root)), session="/".join(parts[1:-1])))
    return root, entries, []


REQUIRED = ("utt_id", "speaker", "path")
OPTIONAL = ("gender", "language", "session", "text", "split")


def read_table_file(path: Path, options: CorpusConfig) -> Listing:
    """A table (TSV, CSV, Parquet; a folder stands for its ``utterances.tsv``) with named columns."""
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
        raise BowerbirdError(f"{file}: not readable as a table ({error})") from error
    for ours in (*REQUIRED, *OPTIONAL):
        theirs = options.columns.get(ours, ours)
        if theirs in table.columns:
            table[ours] = table[theirs]
        elif ours in REQUIRED or ours in options.columns:
            present = ", ".join(map(str, table.columns))
            raise BowerbirdError(
                f"{file}: no column {theirs!r} for {ours}{_nearest(theirs, map(str, table.columns))} (it has: {present}); "
                "name it in corpus.columns"
            )
        else:
            table[ours] = ""
    unknown = sorted(set(table["split"].fillna("").str.lower()) - set(SPLITS))
    if unknown:
        raise BowerbirdError(f"{file}: split {unknown[0]!r} is not one of train, valid, test")
    entries, refusals = [], []
    for row in table[[*REQUIRED, *OPTIONAL]].fillna("").astype(str).to_dict("records"):
        inside = row["path"] and not Path(row["path"]).is_absolute() and ".." not in Path(row["path"]).parts
        if not row["utt_id"] or not row["speaker"]:
            refusals.append(Refusal(row["utt_id"], row["path"], "incomplete row", "utt_id and speaker must be given"))
        elif not inside:
            refusals.append(Refusal(row["utt_id"], row["path"], "path outside the corpus", f"must lie below {root}"))
        else:
            row["gender"] = GENDERS.get(row["gender"].strip().lower(), "")
            row["split"] = SPLITS[row["split"].lower()]
            entries.append(Entry(**{str(k): v for k, v in row.items()}))
    return root, entries, refusals


def _pairs(file: Path, required: bool = True) -> dict[str, str]:
    """A Kaldi table: first word -> the rest of the line."""
    if not file.exists():
        if required:
            raise BowerbirdError(f"{file}: a Kaldi data directory holds it")
        return {}
    lines = (line.strip().split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines())
    return {parts[0]: parts[1] if len(parts) > 1 else "" for parts in lines if parts}


def read_kaldi(root: Path, options: CorpusConfig) -> Listing:
    """A Kaldi data directory: wav.scp, utt2spk, text, spk2gender. Commands in wav.scp are refused, never run."""
    if (root / "segments").exists():
        raise BowerbirdError(f"{root / 'segments'}: segments are not cut here; cut the recordings first")
    speakers, texts = _pairs(root / "utt2spk"), _pairs(root / "text", required=False)
    genders = _pairs(root / "spk2gender", required=False)
    entries, refusals = [], []
    for utt_id, place in _pairs(root / "wav.scp").items():
        if place.endswith("|") or place.startswith("|"):
            refusals.append(
                Refusal(utt_id, place, "command in wav.scp", "commands are not run; write the audio to files")
            )
        elif utt_id not in speakers:
            refusals.append(Refusal(utt_id, place, "unknown speaker", "not in utt2spk"))
        else:
            speaker = speakers[utt_id]
            gender = GENDERS.get(genders.get(speaker, "").lower(), "")
            entries.append(Entry(utt_id, speaker, place, gender, text=texts.get(utt_id, "")))
    return root, entries, refusals


def _librispeech_genders(root: Path) -> dict[str, str]:
    """SPEAKERS.TXT (LibriSpeech) or speakers.tsv (LibriTTS): id -> F or M."""
    for name in ("SPEAKERS.TXT", "SPEAKERS.txt", "speakers.tsv"):
        for folder in (root, root.parent):
            if (folder / name).exists():
                lines = (folder / name).read_text(encoding="utf-8").splitlines()
                fields = [re.split(r"\s*\|\s*|\t", line) for line in lines if line and line[0] not in ";R"]
                return {f[0].strip(): f[1].strip().upper() for f in fields if len(f) > 1}
    return {}


def _subset_split(path: Path, root: Path) -> str:
    """LibriSpeech's own split from the subset's name: train-clean-100, dev-clean, test-other."""
    subset = path.relative_to(root).parts[0]
    return next((split for prefix, split in SPLITS.items() if prefix and subset.startswith(prefix)), "")


def read_librispeech(root: Path, options: CorpusConfig) -> Listing:
    """``subset/speaker/chapter/speaker-chapter-number.flac`` and ``speaker-chapter.trans.txt``."""
    genders = _librispeech_genders(root)
    entries = []
    for folder in _subfolders(root, options):
        texts: dict[str, str] = {}
        for transcript in folder.rglob("*.trans.txt"):
            texts |= _pairs(transcript)
        for path in audio_below(folder):
            speaker, chapter = path.parent.parent.name, path.parent.name
            split = _subset_split(path, root)
            place = str(path.relative_to(root))
            entries.append(
                Entry(
                    path.stem, speaker, place, genders.get(speaker, ""), "en", chapter, texts.get(path.stem, ""), split
                )
            )
    return root, entries, []


def read_libritts(root: Path, options: CorpusConfig) -> Listing:
    """``subset/speaker/chapter/name.wav`` with ``name.normalized.txt`` beside it (LibriTTS and LibriTTS-R)."""
    genders = _librispeech_genders(root)
    entries = []
    for folder in _subfolders(root, options):
        for path in audio_below(folder):
            text = path.with_name(f"{path.stem}.normalized.txt")
            speaker, chapter = path.parent.parent.name, path.parent.name
            entries.append(
                Entry(
                    path.stem,
                    speaker,
                    str(path.relative_to(root)),
                    genders.get(speaker, ""),
                    "en",
                    chapter,
                    text.read_text(encoding="utf-8").strip() if text.exists() else "",
                    _subset_split(path, root),
                )  # fmt: skip
            )
    return root, entries, []


def read_vctk(root: Path, options: CorpusConfig) -> Listing:
    """VCTK 0.92: ``wav48_silence_trimmed/p225/p225_001_mic1.flac``, ``txt/p225/p225_001.txt``, ``speaker-info.txt``."""
    info = root / "speaker-info.txt"
    lines = info.read_text(encoding="utf-8").splitlines()[1:] if info.exists() else []
    genders = {fields[0]: GENDERS.get(fields[2].lower(), "") for fields in map(str.split, lines) if len(fields) > 2}
    entries = []
    for path in audio_below(root / "wav48_silence_trimmed"):
        name, _, microphone = path.stem.rpartition("_")
        if microphone != options.microphone:
            continue
        speaker = path.parent.name
        text = root / "txt" / speaker / f"{name}.txt"
        entries.append(
            Entry(
                name,
                speaker,
                str(path.relative_to(root)),
                genders.get(speaker, ""),
                "en",
                text=text.read_text(encoding="utf-8").strip() if text.exists() else "",
            )  # fmt: skip
        )
    return root, entries, []


def read_mls(root: Path, options: CorpusConfig) -> Listing:
    """MLS: ``mls_polish/{train,dev,test}/audio/speaker/book/speaker_book_number.opus``, ``transcripts.txt``, ``metainfo.txt``."""
    genders: dict[str, str] = {}
    for info in sorted([*root.glob("metainfo.txt"), *root.glob("*/metainfo.txt")]):
        for line in info.read_text(encoding="utf-8").splitlines()[1:]:
            fields = [field.strip() for field in line.split("|")]
            if len(fields) > 1:
                genders[fields[0]] = GENDERS.get(fields[1].lower(), "")
    languages = {"german": "de", "dutch": "nl", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
                 "polish": "pl", "english": "en"}  # fmt: skip
    entries = []
    for folder in sorted(p.parent for base in _subfolders(root, options) for p in base.rglob("audio") if p.is_dir()):
        texts = _pairs(folder / "transcripts.txt", required=False)
        name = next((word for word in languages if word in str(folder).lower()), "")
        for path in audio_below(folder / "audio"):
            speaker, book = path.parent.parent.name, path.parent.name
            entries.append(
                Entry(
                    path.stem,
                    speaker,
                    str(path.relative_to(root)),
                    genders.get(speaker, ""),
                    languages.get(name, options.language),
                    book,
                    texts.get(path.stem, ""),
                    SPLITS.get(folder.name, ""),
                )  # fmt: skip
            )
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


def missing_texts(entries: Iterable[Entry]) -> int:
    """How many entries have no transcript."""
    return sum(not entry.text for entry in entries)
