"""What makes a file unusable. Each is decoded once, in several processes; the result does not depend on how many."""

from __future__ import annotations

import functools
import hashlib
import logging
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from bowerbird.artifacts import BowerbirdError, file_sha256
from bowerbird.audio import read_native
from bowerbird.config import CorpusConfig

if TYPE_CHECKING:
    from bowerbird.corpus.readers import Entry

logger = logging.getLogger(__name__)
FULL_SCALE = 0.9999  # samples at or beyond this are clipped


@dataclass(frozen=True)
class Refusal:
    """A file that was set aside."""

    utt_id: str
    path: str
    reason: str
    detail: str = ""


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


def inspect_file(path: Path, options: CorpusConfig) -> Facts:
    """Decode one file and judge it."""
    if not path.is_file():
        return Facts(problem=("missing file", str(path)))
    if path.stat().st_size == 0:
        return Facts(problem=("empty file", "0 bytes"))
    try:
        wave, rate = read_native(path)
    except BowerbirdError as error:
        return Facts(problem=("corrupt", str(error)))
    if not len(wave):
        return Facts(problem=("empty file", "no samples"))
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
    return Facts(rate, len(wave), file_sha256(path), hashlib.sha256(wave.tobytes()).hexdigest())


def inspect_all(
    entries: Sequence[Entry], root: Path, options: CorpusConfig, workers: int
) -> tuple[list[Row], list[Refusal]]:
    """Rows for the entries that can be used, in their order, and refusals for the rest."""
    paths = [root / entry.path for entry in entries]
    judge = functools.partial(inspect_file, options=options)
    show = {"total": len(paths), "unit": "file", "desc": "corpus", "disable": not sys.stderr.isatty()}
    if workers > 1 and len(paths) > 64:
        with ProcessPoolExecutor(workers) as pool:
            facts = list(tqdm(pool.map(judge, paths, chunksize=32), **show))
    else:
        facts = [judge(path) for path in tqdm(paths, **show)]
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
            refusals.append(Refusal(entry.utt_id, entry.path, *problem))
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
            )  # fmt: skip
        )
    return rows, refusals
