"""Section `corpus`: where the speech is."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import Section
from bowerbird.config.messages import nearest

REQUIRED_COLUMNS = ("utt_id", "speaker", "path")  # of a corpus of kind table
OPTIONAL_COLUMNS = ("gender", "language", "session", "text", "split")


class CorpusConfig(Section):
    """Where the speech is, how it is split, what is refused."""

    kind: Literal["table", "folder", "kaldi", "librispeech", "libritts", "vctk", "mls"] = Field(
        "table", description="layout of the corpus on disk"
    )
    path: str = Field(
        "bundled:demo", description="folder, table or Kaldi directory; bundled:demo is the shipped corpus"
    )
    audio_root: str = Field(
        "", description="folder that relative paths of a table start from; default: the table's own"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="kind table: our column name -> the table's column name, where they differ"
    )
    language: str = Field("en", description="language of utterances that do not name one (BCP 47)")
    microphone: Literal["mic1", "mic2"] = Field("mic1", description="kind vctk: which microphone")
    subsets: list[str] = Field(default_factory=list, description="subfolders to read (train-clean-100 ...); empty: all")
    num_shards: int = Field(2, ge=1, description="audio, features and pairs are made in this many jobs")
    valid_speakers: float = Field(
        0.05, ge=0, lt=1, description="fraction of speakers in valid (where the corpus names no split)"
    )
    test_speakers: float = Field(
        0.1, ge=0, lt=1, description="fraction of speakers in test (where the corpus names no split)"
    )
    seen_utterances: int = Field(
        0,
        ge=0,
        description="utterances of each training speaker kept out of training (split seen), for seen-to-seen trials",
    )
    split_seed: int = Field(0, ge=0, description="changes which speakers are in which split")
    trim_silence: bool = Field(False, description="cut leading and trailing silence (Silero VAD)")
    min_duration_s: float = Field(0.5, ge=0, description="shorter files are refused, seconds")
    max_duration_s: float = Field(60.0, gt=0, description="longer files are refused, seconds")
    max_clipped_fraction: float = Field(
        0.01, ge=0, le=1, description="share of samples at full scale before a file is refused"
    )
    max_rejected_fraction: float = Field(0.05, ge=0, le=1, description="share of refused files before the run stops")
    require_text: bool = Field(False, description="refuse utterances without a transcript")

    @pydantic.model_validator(mode="after")
    def _columns_are_known(self) -> CorpusConfig:
        known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
        for name in self.columns:
            if name not in known:
                raise ValueError(f"corpus.columns.{name}: unknown column{nearest(name, known)}")
        return self
