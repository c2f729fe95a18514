"""Section `conversion`: how converted waveforms are written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bowerbird.config.base import Section


class ConversionConfig(Section):
    """How converted waveforms are written."""

    loudness: Literal["source", "none"] = Field(
        "source", description="source: RMS of the source utterance; none: as the system gives it"
    )
    max_chunk_s: float = Field(20.0, gt=1, description="longer inputs are vocoded in overlapping chunks, seconds")
