"""The diagnostics of one variant of a run."""

from __future__ import annotations

from bowerbird.config.graph import Graph
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.diagnostics.codebook import diagnose_codebook
from bowerbird.inspection.diagnostics.features import diagnose_features
from bowerbird.inspection.diagnostics.pairs import diagnose_pairs
from bowerbird.inspection.diagnostics.result import Diagnostics

MEASURE = {"features": diagnose_features, "codebook": diagnose_codebook, "pairs": diagnose_pairs}


def diagnose(graph: Graph, kind: str, name: str, frame: str = "", count: int = 8) -> Diagnostics:
    """Measure the variant ``name`` of ``kind`` (features, codebook, pairs).

    ``frame`` (UTTERANCE:NUMBER) is a frame whose ``count`` neighbors are looked up, "" for none. Raises `BowerbirdError` where
    the run's configuration has no such variant.
    """
    if name not in getattr(graph.config, kind):
        folder = graph.paths.root / kind / name
        raise BowerbirdError(f"{folder}: the run's config.yaml has no such variant of {kind}")
    return MEASURE[kind](graph, name, frame, count)
