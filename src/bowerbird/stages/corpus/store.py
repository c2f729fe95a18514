"""`store-audio`: one shard of the manifest as samples at 16 kHz.

Letter: ``N`` samples.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.identity import Identity, RunRecord, input_digests, run_record_path
from bowerbird.artifacts.shards import ShardWriter
from bowerbird.artifacts.tables import read_table
from bowerbird.audio import SAMPLE_RATE, float_to_int16, read_native, resample
from bowerbird.config.sections.runtime import RuntimeConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.corpus import VERSION
from bowerbird.stages.corpus.spans import cut_span, split_span

logger = logging.getLogger(__name__)

SILENCE_MARGIN = SAMPLE_RATE // 10  # samples of silence that are kept before and after speech


def store_audio(manifest: Path, output: Path, shard: int, trim_silence: bool, runtime: RuntimeConfig) -> None:
    """Decode the utterances of one shard to 16 kHz mono int16, end to end, at the level of their files.

    `trim_silence` cuts what Silero VAD takes for silence at both ends, but for a tenth of a second.
    """
    record = RunRecord()
    table = read_table(manifest, ["utt_id", "path", "shard", "sha256"])
    rows = table[table["shard"] == shard]
    root = corpus_root(manifest)
    params = {"shard": shard, "trim_silence": trim_silence}
    identity = Identity("corpus", VERSION, params, input_digests({"manifest": [manifest]}))
    trim = _load_silence_trimmer() if trim_silence else lambda wave: wave
    read = functools.lru_cache(maxsize=1)(_read_unchanged)  # segments of one recording come one after another
    with ShardWriter(output, "int16", (), length="num_samples") as writer:
        for utt_id, path, digest in zip(rows["utt_id"], rows["path"], rows["sha256"], strict=True):
            file, span = split_span(path)
            try:
                wave, rate = read(root / file, digest)
            except BowerbirdError as error:
                raise BowerbirdError(f"{utt_id}: {error}") from error
            writer.add(utt_id, float_to_int16(trim(resample(cut_span(wave, rate, span), rate))))
        writer.close(identity, record, extra={"sample_rate": SAMPLE_RATE})
    logger.info("%s: %d utterances", output, len(rows))


def corpus_root(manifest: Path) -> Path:
    """The folder that the relative paths of a manifest start from, which its run record names."""
    record = run_record_path(manifest)
    try:
        return Path(json.loads(record.read_text(encoding="utf-8"))["root"])
    except (OSError, ValueError, KeyError) as error:
        raise BowerbirdError(f"{record}: does not say where the corpus lies; list the corpus again") from error


def _read_unchanged(path: Path, digest: str) -> tuple[np.ndarray, int]:
    """Samples ``(N,)`` and rate in Hz of a file that still has the bytes it had when the manifest was made."""
    if path.exists() and file_sha256(path) != digest:
        raise BowerbirdError(f"{path} has changed since the manifest was made; list the corpus again")
    try:
        return read_native(path)
    except BowerbirdError as error:
        raise BowerbirdError(f"{error}; it was readable when the manifest was made") from error


def _load_silence_trimmer() -> Callable[[np.ndarray], np.ndarray]:
    """A function that cuts silence (Silero VAD) at both ends of a wave ``(N,)`` at 16 kHz, but for `SILENCE_MARGIN`."""
    import torch
    from silero_vad import get_speech_timestamps, load_silero_vad

    model = load_silero_vad(onnx=True)

    def trim(wave: np.ndarray) -> np.ndarray:
        model.reset_states()
        speech = get_speech_timestamps(torch.from_numpy(wave), model, sampling_rate=SAMPLE_RATE)
        if not speech:
            return wave
        return wave[max(0, speech[0]["start"] - SILENCE_MARGIN) : speech[-1]["end"] + SILENCE_MARGIN]

    return trim
