"""What makes a file unusable. Each is decoded once, in several processes; the result does not depend on how many."""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bowerbird.artifacts.files import file_sha256
from bowerbird.audio import read_native
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus.entries import CorpusEntry, Refusal
from bowerbird.stages.corpus.truncation import cut_flac, promised_samples

logger = logging.getLogger(__name__)


FULL_SCALE = 0.9999  # samples at or beyond this are clipped


TRUNCATED = "header says {} samples, {} are there"


MAX_OVERSHOOT = 0.5  # seconds a segment may end past its recording, as Kaldi's extract-segments has it


SPAN = re.compile(r"(?P<file>.+)#t=(?P<start>\d+(?:\.\d+)?)(?:,(?P<end>\d+(?:\.\d+)?))?")


Span = tuple[float, float | None]  # start and end in seconds; None: the end of the file


WHOLE: Span = (0.0, None)


@dataclass(frozen=True)
class Facts:
    """What decoding a file showed; ``problem`` is (reason, detail) where it cannot be used."""

    sample_rate: int = 0
    num_samples: int = 0
    sha256: str = ""
    content: str = ""  # digest of the decoded samples
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class Row:
    """A row of the manifest, before splits and shards."""

    utt_id: str
    speaker: str
    gender: str
    language: str
    session: str
    text: str
    path: str
    sample_rate: int
    num_samples: int
    duration_s: float
    split: str
    sha256: str


def split_span(path: str) -> tuple[str, Span]:
    """A manifest path and what of the file it means: ``calls/a.wav#t=1.5,4`` is from 1.5 s to 4 s, in seconds."""
    match = SPAN.fullmatch(path)
    if match is None:
        return path, WHOLE
    return match["file"], (float(match["start"]), float(match["end"]) if match["end"] else None)


def cut_span(wave: np.ndarray, rate: int, span: Span) -> np.ndarray:
    """The samples of a span of ``(samples,)`` at ``rate`` Hz; one that ends past the recording ends with it."""
    start, end = span
    return wave[round(start * rate) : None if end is None else round(end * rate)]


def inspect_file(path: Path, spans: Sequence[Span], options: CorpusConfig) -> list[Facts]:
    """Decode one file and judge each of its ``spans`` (of most: one, the whole file)."""
    try:
        wave, rate = _decode(path)
    except _UnusableError as error:
        return [Facts(problem=error.problem)] * len(spans)
    digest = file_sha256(path)
    return [_judge(wave, rate, digest, span, options) for span in spans]


class _UnusableError(Exception):
    """A file with nothing to judge; ``problem`` is (reason, detail)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.problem = reason, detail


def _decode(path: Path) -> tuple[np.ndarray, int]:
    """Samples and rate of a file that is all there."""
    if not path.is_file():
        raise _UnusableError("missing file", str(path))
    if path.stat().st_size == 0:
        raise _UnusableError("empty file", "0 bytes")
    try:
        wave, rate = read_native(path)
    except BowerbirdError as error:
        cut = cut_flac(path)
        if cut is None:
            raise _UnusableError("corrupt", str(error)) from error
        raise _UnusableError("truncated", TRUNCATED.format(*cut)) from error
    except ValueError as error:  # libsndfile takes a FLAC written to a pipe for one of 2^63 samples
        raise _UnusableError("unknown length", "the header counts no samples; write the file again") from error
    promised = promised_samples(path, len(wave))
    if promised > len(wave):
        raise _UnusableError("truncated", TRUNCATED.format(promised, len(wave)))
    if not len(wave):
        raise _UnusableError("empty file", "no samples")
    return wave, rate


def _judge(wave: np.ndarray, rate: int, digest: str, span: Span, options: CorpusConfig) -> Facts:
    """What a span of a decoded file is good for."""
    length, (start, end) = len(wave) / rate, span
    wave = np.ascontiguousarray(cut_span(wave, rate, span))
    if not len(wave) or (end is not None and end > length + MAX_OVERSHOOT):
        wanted = f"{start:g} s to {'its end' if end is None else f'{end:g} s'}"
        return Facts(problem=("segment outside the recording", f"{wanted} of {length:.3f} s"))
    seconds = len(wave) / rate
    if not np.isfinite(wave).all():
        return Facts(problem=("not finite", "holds NaN or infinity"))
    if seconds < options.min_duration_s:
        return Facts(problem=("too short", f"{seconds:.3f} s"))
    if seconds > options.max_duration_s:
        return Facts(problem=("too long", f"{seconds:.1f} s"))
    if not wave.any():
        return Facts(problem=("silent", "every sample is zero"))
    clipped = float(np.mean(np.abs(wave) >= FULL_SCALE))
    if clipped > options.max_clipped_fraction:
        return Facts(problem=("clipped", f"{clipped:.2%} of the samples at full scale"))
    return Facts(rate, len(wave), digest, hashlib.sha256(wave.tobytes()).hexdigest())


def inspect_all(
    entries: Sequence[CorpusEntry], root: Path, options: CorpusConfig, workers: int
) -> tuple[list[Row], list[Refusal]]:
    """Rows for the entries that can be used, in their order, and refusals for the rest.

    A recording of which several entries are segments is decoded once.
    """
    wanted: dict[str, list[tuple[int, Span]]] = {}
    for number, entry in enumerate(entries):
        file, span = split_span(entry.path)
        wanted.setdefault(file, []).append((number, span))
    paths = [root / file for file in wanted]
    spans = [[span for _, span in of_file] for of_file in wanted.values()]
    judge = functools.partial(inspect_file, options=options)
    show = {"total": len(paths), "unit": "file", "desc": "corpus", "disable": not sys.stderr.isatty()}
    if workers > 1 and len(paths) > 64:
        with ProcessPoolExecutor(workers) as pool:
            found = list(tqdm(pool.map(judge, paths, spans, chunksize=32), **show))
    else:
        found = [judge(path, of_file) for path, of_file in tqdm(zip(paths, spans, strict=True), **show)]
    facts = [Facts()] * len(entries)
    for of_file, seen_of_file in zip(wanted.values(), found, strict=True):
        for (number, _), seen in zip(of_file, seen_of_file, strict=True):
            facts[number] = seen
    rows: list[Row] = []
    refusals: list[Refusal] = []
    first: dict[str, str] = {}
    for entry, seen in zip(entries, facts, strict=True):
        problem = seen.problem
        if problem is None and seen.content in first:
            problem = ("duplicate content", f"the same samples as {first[seen.content]}")
        if problem is None and options.require_text and not entry.text:
            problem = ("missing transcript", "require_text is set")
        if problem is not None:
            reason, detail = problem  # where the corpus lies is no part of what is wrong
            refusals.append(Refusal(entry.utt_id, entry.path, reason, detail.replace(f"{root}/", "")))
            continue
        first[seen.content] = entry.utt_id
        rows.append(
            Row(
                entry.utt_id,
                entry.speaker,
                entry.gender,
                entry.language or options.language,
                entry.session,
                entry.text,
                entry.path,
                seen.sample_rate,
                seen.num_samples,
                round(seen.num_samples / seen.sample_rate, 4),
                entry.split,
                seen.sha256,
            )
        )
    return rows, refusals
