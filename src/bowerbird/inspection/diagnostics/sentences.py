"""Statistics as text."""

from __future__ import annotations

from collections.abc import Sequence

from bowerbird.inspection.statistics import Drift, Hubs, SpeakerAccuracy


def percent(share: float) -> str:
    """A share as percent with one digit."""
    return f"{100 * share:.1f} %"


def describe_drift(drift: Drift | None, distance: str) -> str:
    """The farthest shard beside its limit; ``distance`` says of what, and in which unit."""
    if drift is None:
        return "no other shard to compare with"
    worst = int(drift.distances.argmax())
    found = (
        f"{drift.distances[worst]:.3f} {distance} (shard {drift.shards[worst]}, the farthest; speakers explain up to "
        f"{drift.limits[worst]:.3f})"
    )
    suspects = ", ".join(map(str, drift.suspects))
    return f"{found}; MORE THAN SPEAKERS EXPLAIN: shard {suspects}" if suspects else found


def describe_hubs(hubs: Hubs, frames: str) -> str:
    """How unevenly ``frames`` are retrieved."""
    return (
        f"skewness of N_{hubs.k} {hubs.skewness:.2f} {frames}; the most retrieved hundredth takes {percent(hubs.top_share)} "
        f"of places, the first {int(hubs.times.max())}; {percent(hubs.share_never)} are never retrieved"
    )


def describe_accuracies(accuracies: Sequence[SpeakerAccuracy]) -> str:
    """Each accuracy beside its chance level."""
    return ", ".join(
        f"{percent(found.accuracy)} from {found.source} (chance level {percent(found.chance_level)})"
        for found in accuracies
    )
