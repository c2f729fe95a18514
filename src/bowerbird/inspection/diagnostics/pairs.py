"""Pairs: what is retrieved, how often, and which speaker the retrieved frames are of."""

from __future__ import annotations

import numpy as np

from bowerbird.artifacts.pairs import PairShards
from bowerbird.config.graph import Graph
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.diagnostics.panels import (
    accuracy_panels,
    cosine_panel,
    drift_panels,
    hub_panel,
    variance_panel,
)
from bowerbird.inspection.diagnostics.result import Diagnostics, split_frame
from bowerbird.inspection.diagnostics.sentences import describe_drift, describe_hubs, percent
from bowerbird.inspection.statistics import (
    Drift,
    Hubs,
    SpeakerAccuracy,
    VariantFrames,
    measure_drift,
    measure_spread,
    nearest_speakers,
)

LISTED_HUBS = 6  # hub frames that one can listen to
SAMPLED_PAIRS = 300  # whose retrieved frames are looked at
SAMPLED_ROWS = 6_000  # of each shard, whose cosines are looked at


def diagnose_pairs(graph: Graph, name: str, frame: str, count: int) -> Diagnostics:
    """The diagnostics of a variant of `pairs`; neighbors of ``frame`` are what was retrieved for it."""
    found = Diagnostics("pairs", name)
    features = graph.paths.all_shards("features", graph.config.pairs[name].features)
    frames = VariantFrames(features, graph.paths.manifest)
    pairs = PairShards(graph.paths.all_shards("pairs", name))
    if not len(pairs):
        raise BowerbirdError(f"{graph.paths.root / 'pairs' / name}: no pairs in it; nothing to measure")
    stats, cosine = found.stats, _sampled_cosines(pairs)
    stats["pairs"] = f"{len(pairs)} of {pairs.index['utt_id'].nunique()} utterances, k = {pairs.k}"
    stats["cosine"] = "by place of the neighbor: " + ", ".join(f"{value:.3f}" for value in cosine.mean(axis=0))
    hubs, places = count_retrievals(pairs, frames)
    stats["hubs"] = describe_hubs(hubs, "of the donors' frames, over every pair")
    found.hubs = [(frames.frame_at(*places[place]), int(hubs.times[place])) for place in hubs.top(LISTED_HUBS)]
    rows = np.unique(np.linspace(0, len(pairs) - 1, min(SAMPLED_PAIRS, len(pairs))).astype(int))
    retrieved = [pairs.retrieved(int(row), frames.shards) for row in rows]
    variances, stats["collapse"] = _describe_collapse(pairs, frames, rows, retrieved)
    accuracies = _speaker_accuracies(pairs, frames, rows, retrieved)
    stats["leakage"] = (
        "the mean of what is retrieved is classified as "
        + ", ".join(f"{found_as.source} in {percent(found_as.accuracy)}" for found_as in accuracies)
        + f" of {len(rows)} pairs (chance level {percent(accuracies[0].chance_level)})"
    )
    drift = _cosine_drift(pairs)
    stats["drift"] = describe_drift(drift, "standard deviations between a shard's mean cosine and the others'")
    found.panels = [
        variance_panel(variances, "Variance of the retrieved and averaged frames, by principal direction."),
        cosine_panel(cosine),
        *drift_panels(drift, "distance of cosine, standard deviations"),
        hub_panel(hubs, "frames of the donors"),
        *accuracy_panels(accuracies, "Speaker of the retrieved frames: the donor is wanted, the target is a leak."),
    ]
    if frame:
        _look_up(found, pairs, frames, frame, count)
    return found


def _sampled_cosines(pairs: PairShards) -> np.ndarray:
    """Cosines ``(n, k)`` of frames and their neighbors, evenly over each shard."""
    arrays = [array[:: max(1, len(array) // SAMPLED_ROWS)] for array in pairs.distance_arrays if len(array)]
    return np.concatenate([1 - np.asarray(array, dtype=np.float32) for array in arrays])


def count_retrievals(pairs: PairShards, frames: VariantFrames) -> tuple[Hubs, list[tuple[int, int]]]:
    """How often each frame of a donor is retrieved, over every pair; and the shard and row of each."""
    times: dict[int, np.ndarray] = {}
    for row in range(len(pairs)):
        file = int(pairs.index["donor_file"].iloc[row])
        counts = times.setdefault(file, np.zeros(len(frames.shards.arrays[file]), dtype=np.int64))
        counts += np.bincount(np.asarray(pairs.indices(row)).ravel(), minlength=len(counts))
    donors = set(pairs.index["donor_speaker"])
    kept, places = [], []
    for file, counts in sorted(times.items()):
        names, _ = frames.names(file, np.arange(len(counts)))
        is_donor = np.array([frames.speaker_of.get(name, "") in donors for name in names])
        kept.append(counts[is_donor])
        places += [(file, int(row)) for row in np.flatnonzero(is_donor)]
    return Hubs(np.concatenate(kept), pairs.k), places


def _describe_collapse(
    pairs: PairShards, frames: VariantFrames, rows: np.ndarray, retrieved: list[np.ndarray]
) -> tuple[np.ndarray, str]:
    """Variances ``(D,)`` of the ``retrieved`` frames of pairs ``rows``, and a sentence beside those of the targets."""
    targets = [np.asarray(frames.shards[pairs.index["utt_id"].iloc[row]], dtype=np.float32) for row in rows]
    ratio = float(np.concatenate(retrieved).var(axis=0).sum() / np.concatenate(targets).var(axis=0).sum())
    spread = measure_spread(np.concatenate(retrieved))
    return spread.variances, (
        f"the mean of the neighbors keeps {percent(ratio)} of the targets' variance; "
        f"{spread.effective_rank:.1f} dimensions in effect"
    )


def _speaker_accuracies(
    pairs: PairShards, frames: VariantFrames, rows: np.ndarray, retrieved: list[np.ndarray]
) -> list[SpeakerAccuracy]:
    """How often the mean of the ``retrieved`` frames of pairs ``rows`` is nearest to the donor, and to the target."""
    sample = frames.sample()
    guess = nearest_speakers(sample.values, sample.speaker, np.stack([values.mean(axis=0) for values in retrieved]))
    chance_level = 1 / len(set(sample.speaker))
    return [
        SpeakerAccuracy(who, float((guess == pairs.index[column].to_numpy(str)[rows]).mean()), chance_level)
        for who, column in (("the donor", "donor_speaker"), ("the target", "speaker"))
    ]


def _cosine_drift(pairs: PairShards) -> Drift | None:
    """Drift of the mean cosine of pairs between shards."""
    cosine = np.array([1 - float(np.mean(pairs.distances(row), dtype=np.float64)) for row in range(len(pairs))])
    files, speakers = pairs.index["file"].to_numpy(), pairs.index["speaker"].to_numpy(object)
    return measure_drift(cosine[:, None], files, speakers, np.array([cosine.std()]))


def _look_up(found: Diagnostics, pairs: PairShards, frames: VariantFrames, frame: str, count: int) -> None:
    """Add what was retrieved for a frame, of each donor."""
    utt_id, number = split_frame(frame)
    own = np.flatnonzero(pairs.index["utt_id"].to_numpy(object) == utt_id)
    if not len(own):
        raise BowerbirdError(
            f"--frame: {utt_id!r}: no pairs of this utterance (pairs are of the splits train and valid)"
        )
    found.asked = frames.frame_at(*frames.place(utt_id, number))
    for row in own.tolist():
        file = int(pairs.index["donor_file"].iloc[row])
        near = zip(pairs.indices(row)[number], pairs.distances(row)[number], strict=True)
        found.neighbors += [frames.frame_at(file, int(place), 1 - float(distance)) for place, distance in near]
    donors = ", ".join(sorted(set(pairs.index["donor_speaker"].iloc[own])))
    found.neighbors, found.asked_note = found.neighbors[:count], f"what was retrieved for it of {donors}"
