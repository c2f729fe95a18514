"""A codebook and its units: are the codes used, alike, and do they tell the speaker?"""

from __future__ import annotations

import numpy as np

from bowerbird.artifacts.codebook import Codebook
from bowerbird.config.graph import Graph
from bowerbird.inspection.diagnostics.panels import accuracy_panels, code_use_panel, drift_panels, variance_panel
from bowerbird.inspection.diagnostics.result import Diagnostics, split_frame
from bowerbird.inspection.diagnostics.sentences import describe_accuracies, describe_drift, percent
from bowerbird.inspection.statistics import (
    FrameSample,
    SpeakerAccuracy,
    VariantFrames,
    measure_spread,
    measure_use_drift,
    nearest_frames,
    speaker_accuracy_of_units,
    unit_rows,
)
from bowerbird.stages.codebook.usage import perplexity

SAMPLED_UNITS = 60_000
SAME_COSINE = 0.999  # centroids with a larger cosine are one
SEARCHED_PER_NEIGHBOR = 50  # nearest frames that are looked at for each neighbor of the same code


def diagnose_codebook(graph: Graph, name: str, frame: str, count: int) -> Diagnostics:
    """The diagnostics of a codebook and its units; neighbors of ``frame`` have its code."""
    found = Diagnostics("codebook", name)
    centroids = Codebook.load(graph.paths.codebook(name)).centroids
    units = VariantFrames(graph.paths.all_shards("units", name), graph.paths.manifest)
    sample = units.sample(SAMPLED_UNITS)
    codes, num_codes, stats = sample.values.astype(np.int64), len(centroids), found.stats
    used = np.bincount(codes, minlength=num_codes)
    stats["codes"] = f"{num_codes}, {(used == 0).sum()} dead; perplexity {perplexity(used):.1f}"
    spread = measure_spread(centroids)
    stats["rank"] = f"{spread.effective_rank:.1f} of {centroids.shape[1]} dimensions in effect; {spread.num_dead} dead"
    stats["collapse"] = _describe_near_duplicates(centroids)
    drift = measure_use_drift(codes, num_codes, sample.file, sample.speaker)
    stats["drift"] = describe_drift(drift, "standard deviations between a shard's use of a code and the others'")
    ordered = np.sort(used)[::-1]
    top_share = ordered[: max(1, num_codes // 100)].sum() / ordered.sum()
    stats["hubs"] = f"the most used hundredth of the codes takes {percent(top_share)}"
    accuracy = _speaker_accuracy(units, sample, codes)
    stats["leakage"] = f"of {len(set(sample.speaker))} speakers {describe_accuracies([accuracy])}"
    found.panels = [
        variance_panel(spread.variances, "Variance of the centroids by principal direction."),
        code_use_panel(ordered / ordered.sum()),
        *drift_panels(drift, "distance of use, standard deviations"),
        *accuracy_panels([accuracy], "The speaker by the code alone: the one who used it most in other speech."),
    ]
    if frame:
        _look_up(found, graph, units, frame, count)
    return found


def _describe_near_duplicates(centroids: np.ndarray) -> str:
    """How many of ``centroids (K, D)`` have the direction of another one, and how near the nearest other usually is."""
    rows = unit_rows(centroids)
    cosine = rows @ rows.T - 2 * np.eye(len(rows), dtype=np.float32)
    nearest = cosine.max(axis=1)
    return (
        f"{int((nearest > SAME_COSINE).sum())} codes have a near-duplicate (cosine above {SAME_COSINE:g}); nearest other "
        f"centroid: cosine {float(np.median(nearest)):.3f} in the median"
    )


def _speaker_accuracy(units: VariantFrames, sample: FrameSample, codes: np.ndarray) -> SpeakerAccuracy:
    """The speaker by ``codes (n,)``, fitted on the first two thirds of each utterance of the sample."""
    index = units.shards.index.set_index("utt_id").loc[sample.utt_id]
    ends = index["start"].to_numpy() + index["frames"].to_numpy() * 2 / 3
    return speaker_accuracy_of_units(codes, sample.speaker, sample.row < ends)


def _look_up(found: Diagnostics, graph: Graph, units: VariantFrames, frame: str, count: int) -> None:
    """Add the code of a frame, and the frames of the same code that are nearest to it."""
    utt_id, number = split_frame(frame)
    found.asked = units.frame_at(*units.place(utt_id, number))
    code = int(units.shards[utt_id][number])
    features = graph.config.codebook[found.name].features
    frames = VariantFrames(graph.paths.all_shards("features", features), graph.paths.manifest)
    near = nearest_frames(frames, utt_id, number, SEARCHED_PER_NEIGHBOR * count)
    same = [other for other in near if int(units.shards[other.utt_id][other.frame]) == code]
    found.neighbors = same[:count]
    found.asked_note = (
        f"code {code}; of its {len(near)} nearest frames in other utterances {len(same)} have the same code; "
        "the nearest of those"
    )
