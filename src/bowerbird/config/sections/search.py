"""How frames are looked for: the space that is searched, and what is asked of neighbors besides. Pairs and kNN-VC share it."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from pydantic import Field

from bowerbird.config.base import Section


def _weights(value: Any) -> Any:
    """``keys`` is short for ``{keys: 1.0}``, and "" for nothing."""
    return ({value: 1.0} if value else {}) if isinstance(value, str) else value


Spaces = Annotated[dict[str, Annotated[float, Field(gt=0)]], pydantic.BeforeValidator(_weights)]


class SearchOptions(Section):
    """Keys and values: neighbors are looked for in one space, and read from another."""

    search: Spaces = Field(
        default_factory=dict,
        description="names in `features` that are searched, with weights: a frame's similarity is the weighted mean of its "
        "cosines; one name alone may be given as text; empty: the features themselves",
    )
    context: int = Field(
        0,
        ge=0,
        le=10,
        description="frames on each side that are compared too: the similarity of two frames is the mean over both neighborhoods",
    )
    continuity: float = Field(
        0.0,
        ge=0,
        description="cost of a jump, in cosine distance: the nearest neighbor is that of the cheapest path, in which frames "
        "that followed each other in the reference follow without a cost; 0: each frame by itself",
    )
