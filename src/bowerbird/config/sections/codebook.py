"""Section `codebook`: K-means over features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bowerbird.config.base import Section


class CodebookConfig(Section):
    """K-means over features."""

    features: str = Field("nano", description="name in `features`")
    num_codes: int = Field(256, ge=2, le=65536, description="number of clusters K")
    sample_frames: int = Field(200_000, ge=100, description="frames drawn from the training split to fit on")
    init: Literal["kmeans++", "random"] = Field("kmeans++", description="how centroids start")
    restarts: int = Field(1, ge=1, description="fits; the one of lowest inertia is kept")
    iterations: int = Field(25, ge=1, description="Lloyd iterations per fit")
    assignment: Literal["cosine", "euclidean"] = Field(
        "cosine", description="look-up of a frame's code (QR-VC: cosine; the un-normalized centroid is returned)"
    )
    seed: int = Field(0, ge=0, description="of the sample and of the start")
