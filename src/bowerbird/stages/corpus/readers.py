"""Entries of a corpus of any kind: read by its layout, in one order, without ids that occur twice or cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bowerbird.config.paths import bundled
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.entries import CorpusEntry, Listing, Refusal
from bowerbird.stages.corpus.file_trees import name_bytes, printable_name
from bowerbird.stages.corpus.general_layouts import read_folder, read_kaldi, read_table_file
from bowerbird.stages.corpus.known_corpora import read_librispeech, read_libritts, read_mls, read_vctk

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


def read_entries(options: CorpusConfig) -> Listing:
    """Root folder, entries sorted bytewise by id, and refusals of the corpus that the options name.

    Raises `BowerbirdError` where the corpus is not there, or nothing is in it.
    """
    path = Path(bundled(options.path)).expanduser()
    if not path.exists():
        raise BowerbirdError(
            f"corpus.path: {options.path}: no such file or folder; give the corpus of kind {options.kind!r}"
        )
    if printable_name(str(path)) != str(path):
        raise BowerbirdError(f"corpus.path: {printable_name(str(path))}: its name is not UTF-8; rename the folder")
    root, entries, refusals = READERS[options.kind](path, options)
    if not entries:
        raise BowerbirdError(
            f"corpus.path: {path}: no utterances found as kind {options.kind!r}; {HINTS[options.kind]}"
        )
    unique: dict[str, CorpusEntry] = {}
    for entry in sorted(entries, key=lambda entry: (name_bytes(entry.utt_id), name_bytes(entry.path))):
        problem = _problem_of(entry, unique)
        if problem is None:
            unique[entry.utt_id] = entry
        else:
            refusals.append(Refusal(entry.utt_id, entry.path, *problem))
    return root, list(unique.values()), [Refusal(*map(printable_name, vars(refusal).values())) for refusal in refusals]


def _problem_of(entry: CorpusEntry, known: dict[str, CorpusEntry]) -> tuple[str, str] | None:
    """Why an entry cannot be used beside those that are ``known`` by their ids, (reason, detail); None where it can."""
    if any(printable_name(field) != field for field in vars(entry).values()):
        return "name is not UTF-8", "rename the file or its folder"
    if "/" in entry.utt_id or entry.utt_id.startswith("."):
        return "unusable id", "ids become file names: no '/', no leading '.'"
    if entry.utt_id in known:
        return "duplicate id", f"first seen at {known[entry.utt_id].path}"
    return None
