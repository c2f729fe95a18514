"""Corpora that are read as they are published: LibriSpeech, LibriTTS, VCTK, MLS."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.stages.corpus.entries import CorpusEntry, Listing
from bowerbird.stages.corpus.file_trees import audio_below, files_below, folders_below, read_text, subset_folders
from bowerbird.stages.corpus.general_layouts import GENDERS, SPLITS, read_kaldi_table

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


def read_librispeech(root: Path, options: CorpusConfig) -> Listing:
    """List ``subset/speaker/chapter/speaker-chapter-number.flac``, with ``speaker-chapter.trans.txt`` beside them."""
    genders = _librispeech_genders(root)
    entries = []
    for folder in subset_folders(root, options):
        texts: dict[str, str] = {}
        for transcript in files_below(folder, (".trans.txt",)):
            texts |= read_kaldi_table(transcript)
        for path in audio_below(folder):
            entries.append(_chapter_entry(root, path, genders, "en", texts.get(path.stem, "")))
    return root, entries, []


def read_libritts(root: Path, options: CorpusConfig) -> Listing:
    """List ``subset/speaker/chapter/name.wav`` (LibriTTS and LibriTTS-R), with ``name.normalized.txt`` beside it."""
    genders = _librispeech_genders(root)
    entries = []
    for folder in subset_folders(root, options):
        for path in audio_below(folder):
            beside = path.with_name(f"{path.stem}.normalized.txt")
            text = read_text(beside).strip() if beside.exists() else ""
            entries.append(_chapter_entry(root, path, genders, "en", text))
    return root, entries, []


def read_vctk(root: Path, options: CorpusConfig) -> Listing:
    """List VCTK 0.92: ``wav48_silence_trimmed/p225/p225_001_mic1.flac``, ``txt/p225/p225_001.txt``, ``speaker-info.txt``."""
    info = root / "speaker-info.txt"
    lines = read_text(info).splitlines()[1:] if info.exists() else []
    genders = {fields[0]: GENDERS.get(fields[2].lower(), "") for fields in map(str.split, lines) if len(fields) > 2}
    entries = []
    for path in audio_below(root / "wav48_silence_trimmed"):
        name, _, microphone = path.stem.rpartition("_")
        if microphone != options.microphone:
            continue
        speaker, place = path.parent.name, str(path.relative_to(root))
        transcript = root / "txt" / speaker / f"{name}.txt"
        text = read_text(transcript).strip() if transcript.exists() else ""
        entries.append(CorpusEntry(name, speaker, place, genders.get(speaker, ""), "en", text=text))
    return root, entries, []


def read_mls(root: Path, options: CorpusConfig) -> Listing:
    """List MLS: ``mls_polish/{train,dev,test}/audio/speaker/book/speaker_book_number.opus``, ``transcripts.txt``,
    ``metainfo.txt``.

    The language is the one in the name of the corpus folder, which is the folder above train, dev and test.
    """
    genders: dict[str, str] = {}
    for info in sorted([*root.glob("metainfo.txt"), *root.glob("*/metainfo.txt")]):
        for line in read_text(info).splitlines()[1:]:
            fields = [field.strip() for field in line.split("|")]
            if len(fields) > 1:
                genders[fields[0]] = GENDERS.get(fields[1].lower(), "")
    entries = []
    for folder in (f for base in subset_folders(root, options) for f in folders_below(base) if (f / "audio").is_dir()):
        texts = read_kaldi_table(folder / "transcripts.txt", is_required=False)
        corpus = re.match("mls_([a-z]+)", Path(os.path.abspath(folder)).parent.name.lower())
        language = (MLS_LANGUAGES.get(corpus[1], "") if corpus else "") or options.language
        for path in audio_below(folder / "audio"):
            text, split = texts.get(path.stem, ""), SPLITS.get(folder.name, "")
            entries.append(_chapter_entry(root, path, genders, language, text, split))
    return root, entries, []


def _librispeech_genders(root: Path) -> dict[str, str]:
    """Speaker to F or M, from SPEAKERS.TXT (LibriSpeech) or speakers.tsv (LibriTTS)."""
    for name in ("SPEAKERS.TXT", "SPEAKERS.txt", "speakers.tsv"):
        for folder in (root, root.parent):
            if (folder / name).exists():
                lines = read_text(folder / name).splitlines()
                fields = [re.split(r"\s*\|\s*|\t", line) for line in lines if line and line[0] not in ";R"]
                return {f[0].strip(): f[1].strip().upper() for f in fields if len(f) > 1}
    return {}


def _chapter_entry(
    root: Path, path: Path, genders: Mapping[str, str], language: str, text: str, split: str | None = None
) -> CorpusEntry:
    """The entry of ``.../speaker/chapter/name``; its split is by default that of the subset's name, as in LibriSpeech."""
    speaker, chapter = path.parent.parent.name, path.parent.name
    place = path.relative_to(root)
    if split is None:  # train-clean-100, dev-clean, test-other
        split = next((ours for theirs, ours in SPLITS.items() if theirs and place.parts[0].startswith(theirs)), "")
    return CorpusEntry(path.stem, speaker, str(place), genders.get(speaker, ""), language, chapter, text, split)
