"""Section `pairs`: synthetic training pairs by retrieval."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bowerbird.config.sections.search import SearchOptions


class PairsConfig(SearchOptions):
    """Synthetic training pairs: each frame of a target utterance with its k nearest frames of a donor speaker."""

    features: str = Field("nano", description="name in `features`: what the pairs are of")
    k: int = Field(4, ge=1, le=64, description="neighbors per frame")
    method: Literal["nearest", "random", "shuffled"] = Field(
        "nearest",
        description="nearest: cosine kNN; random: any frames of the donor; shuffled: the kNN result out of order",
    )
    donors_per_utterance: int = Field(1, ge=1, description="donor speakers of each target utterance")
    donor_gender: Literal["any", "same", "cross"] = Field("any", description="gender of donors relative to the target")
    donor_language: Literal["any", "same", "other"] = Field(
        "any", description="language of donors relative to the target"
    )
    pool: Literal["speaker", "chapter"] = Field(
        "speaker", description="donor pool: all of a speaker, or one chapter of them"
    )
    same_speaker: bool = Field(
        False, description="donor = the target's own other utterances (prematching, as kNN-VC's vocoder)"
    )
    min_pool_s: float = Field(5.0, ge=0, description="speakers with less speech are no donors, seconds")
    max_pool_s: float = Field(0.0, ge=0, description="at most this much of a donor's speech, seconds; 0: all")
    seed: int = Field(0, ge=0, description="of the choice of donors and of random pairings")
