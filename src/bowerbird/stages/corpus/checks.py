"""What makes a file unusable. Each is decoded once, in several processes; the result does not depend on how many.

Letter: ``N`` samples.
"""

from __future__ import annotations

import functools
import hashlib
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
from bowerbird.stages.corpus.spans import Span, cut_span, split_span
from bowerbird.stages.corpus.truncation import cut_flac, promised_samples

FULL_SCALE = 0.9999  # samples at or beyond this are clipped
TRUNCATED = "header says {} samples, {} are there"
MAX_OVERSHOOT_S = 0.5  # a segment may end so much past its recording, as in Kaldi's extract-segments
FILES_IN_ONE_PROCESS = 64  # so few are decoded without further processes, which take longer to start


@dataclass(frozen=True)
class InspectedSpan:
    """What decoding a file, or a segment of one, showed; ``problem`` is (reason, detail) where it cannot be used."""

    sample_rate: int = 0  # Hz
    num_samples: int = 0
    file_sha256: str = ""
    content_sha256: str = ""  # of the decoded samples
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class ManifestRow:
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

    @classmethod
    def of(cls, entry: CorpusEntry, found: InspectedSpan, language: str) -> ManifestRow:
        """The row of a usable utterance; ``language`` is that of utterances that do not name one."""
        duration_s = round(found.num_samples / found.sample_rate, 4)
        return cls(
            entry.utt_id,
            entry.speaker,
            entry.gender,
            entry.language or language,
            entry.session,
            entry.text,
            entry.path,
            found.sample_rate,
            found.num_samples,
            duration_s,
            entry.split,
            found.file_sha256,
        )


class _UnusableError(Exception):
    """A file without usable samples; ``problem`` is (reason, detail)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.problem = reason, detail


def inspect_all(
    entries: Sequence[CorpusEntry], root: Path, options: CorpusConfig, workers: int
) -> tuple[list[ManifestRow], list[Refusal]]:
    """Rows for the entries that can be used, in their order, and refusals for the rest."""
    rows: list[ManifestRow] = []
    refusals: list[Refusal] = []
    first: dict[str, str] = {}  # utterance by the digest of its samples
    for entry, found in zip(entries, inspect_entries(entries, root, options, workers), strict=True):
        problem = found.problem
        if problem is None and found.content_sha256 in first:
            problem = ("duplicate content", f"the same samples as {first[found.content_sha256]}")
        if problem is None and options.require_text and not entry.text:
            problem = ("missing transcript", "require_text is set")
        if problem is not None:
            reason, detail = problem
            detail = detail.replace(f"{root}/", "")  # where the corpus lies is no part of what is wrong
            refusals.append(Refusal(entry.utt_id, entry.path, reason, detail))
            continue
        first[found.content_sha256] = entry.utt_id
        rows.append(ManifestRow.of(entry, found, options.language))
    return rows, refusals


def inspect_entries(
    entries: Sequence[CorpusEntry], root: Path, options: CorpusConfig, workers: int
) -> list[InspectedSpan]:
    """What decoding showed of each entry; a recording of which several entries are segments is decoded once."""
    wanted: dict[str, list[tuple[int, Span]]] = {}  # of each file: places among the entries, and spans
    for place, entry in enumerate(entries):
        file, span = split_span(entry.path)
        wanted.setdefault(file, []).append((place, span))
    paths = [root / file for file in wanted]
    spans = [[span for _, span in of_file] for of_file in wanted.values()]
    inspect = functools.partial(inspect_file, options=options)
    bar = functools.partial(tqdm, total=len(paths), unit="file", desc="corpus", disable=not sys.stderr.isatty())
    if workers > 1 and len(paths) > FILES_IN_ONE_PROCESS:
        with ProcessPoolExecutor(workers) as pool:
            inspected = list(bar(pool.map(inspect, paths, spans, chunksize=32)))
    else:
        inspected = [inspect(path, of_file) for path, of_file in bar(zip(paths, spans, strict=True))]
    found = [InspectedSpan()] * len(entries)
    for of_file, found_of_file in zip(wanted.values(), inspected, strict=True):
        for (place, _), found_of_span in zip(of_file, found_of_file, strict=True):
            found[place] = found_of_span
    return found


def inspect_file(path: Path, spans: Sequence[Span], options: CorpusConfig) -> list[InspectedSpan]:
    """Decode one file and inspect each of its ``spans`` (most files have one, the whole file)."""
    try:
        wave, rate = _decode(path)
    except _UnusableError as error:
        return [InspectedSpan(problem=error.problem)] * len(spans)
    digest = file_sha256(path)
    return [_inspect_span(wave, rate, digest, span, options) for span in spans]


def _decode(path: Path) -> tuple[np.ndarray, int]:
    """Samples ``(N,)`` and rate in Hz of a file that is all there; raises `_UnusableError` for any other."""
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


def _inspect_span(wave: np.ndarray, rate: int, digest: str, span: Span, options: CorpusConfig) -> InspectedSpan:
    """What a span of a decoded file ``(N,)`` showed; ``digest`` is the file's."""
    length_s, (start, end) = len(wave) / rate, span
    wave = np.ascontiguousarray(cut_span(wave, rate, span))
    if not len(wave) or (end is not None and end > length_s + MAX_OVERSHOOT_S):
        wanted = f"{start:g} s to {'its end' if end is None else f'{end:g} s'}"
        return InspectedSpan(problem=("segment outside the recording", f"{wanted} of {length_s:.3f} s"))
    seconds = len(wave) / rate
    if not np.isfinite(wave).all():
        return InspectedSpan(problem=("not finite", "holds NaN or infinity"))
    if seconds < options.min_duration_s:
        return InspectedSpan(problem=("too short", f"{seconds:.3f} s"))
    if seconds > options.max_duration_s:
        return InspectedSpan(problem=("too long", f"{seconds:.1f} s"))
    if not wave.any():
        return InspectedSpan(problem=("silent", "every sample is zero"))
    clipped = float(np.mean(np.abs(wave) >= FULL_SCALE))
    if clipped > options.max_clipped_fraction:
        return InspectedSpan(problem=("clipped", f"{clipped:.2%} of the samples at full scale"))
    return InspectedSpan(rate, len(wave), digest, hashlib.sha256(wave.tobytes()).hexdigest())
