"""Section `report`: the static page."""

from __future__ import annotations

from pydantic import Field

from bowerbird.config.base import Section


class ReportConfig(Section):
    """The static report."""

    title: str = Field("bowerbird", description="heading of the page")
    players: int = Field(12, ge=0, description="trials shown with players and spectrograms")
    listening_trials: int = Field(
        4, ge=0, description="of those, trials that the listening test asks about; 0: no test"
    )
