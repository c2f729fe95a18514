"""Features: do they vary, drift, collapse, have hubs, and how well do they tell the speaker?"""

from __future__ import annotations

import numpy as np

from bowerbird.artifacts.manifest import first_training_utterances
from bowerbird.config.graph import Graph
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.diagnostics.panels import (
    accuracy_panels,
    deviation_panel,
    drift_panels,
    hub_panel,
    variance_panel,
)
from bowerbird.inspection.diagnostics.result import Diagnostics, split_frame
from bowerbird.inspection.diagnostics.sentences import describe_accuracies, describe_drift, describe_hubs
from bowerbird.inspection.statistics import (
    HUB_FRAMES,
    SpeakerAccuracy,
    VariantFrames,
    measure_drift,
    measure_hubs,
    measure_spread,
    nearest_frames,
)

LISTED_HUBS = 6  # hub frames that one can listen to
PROBED_SPEAKERS, PROBED_UTTERANCES = 40, 4  # speakers that the linear probes see, and utterances of each


def diagnose_features(graph: Graph, name: str, frame: str, count: int) -> Diagnostics:
    """The diagnostics of a variant of `features`; neighbors of ``frame`` are of other utterances."""
    found = Diagnostics("features", name)
    frames = VariantFrames(graph.paths.all_shards("features", name), graph.paths.manifest)
    sample = frames.sample()
    spread = measure_spread(sample.values)
    dim, stats = sample.values.shape[1], found.stats
    stats["values"] = (
        f"mean {sample.values.mean():.4g}, std {sample.values.std():.4g}, range "
        f"{sample.values.min():.4g} to {sample.values.max():.4g}"
    )
    stats["dead"] = f"{spread.num_dead} of {dim} dimensions never change"
    stats["rank"] = (
        f"{spread.effective_rank:.1f} of {dim} dimensions in effect (participation ratio of the variance); "
        f"{spread.num_directions(0.9)} directions hold 90 % of it, {spread.num_directions(0.99)} 99 %"
    )
    drift = measure_drift(sample.values, sample.file, sample.speaker, spread.deviations)
    stats["drift"] = describe_drift(drift, "standard deviations between a shard's mean and the others'")
    some = frames.sample(HUB_FRAMES)
    hubs = measure_hubs(some)
    stats["hubs"] = describe_hubs(hubs, f"among {len(some.values)} frames")
    found.hubs = [
        (frames.frame_at(int(some.file[place]), int(some.row[place])), int(hubs.times[place]))
        for place in hubs.top(LISTED_HUBS)
    ]
    accuracies, stats["leakage"] = _probe_speakers(graph, frames)
    found.panels = [
        variance_panel(spread.variances, "Variance by principal direction. A cliff far left is a collapse."),
        deviation_panel(spread.deviations),
        *drift_panels(drift, "distance, standard deviations"),
        hub_panel(hubs, "frames"),
        *accuracy_panels(accuracies, "The speaker by a linear probe, from a frame and from the mean of a second."),
    ]
    if frame:
        utt_id, number = split_frame(frame)
        found.asked = frames.frame_at(*frames.place(utt_id, number))
        found.neighbors = nearest_frames(frames, utt_id, number, count)
        found.asked_note = "its nearest frames in other utterances, by cosine, over the whole variant"
    return found


def _probe_speakers(graph: Graph, frames: VariantFrames) -> tuple[list[SpeakerAccuracy], str]:
    """Linear probes for the speaker on frames, and on means of a second, of the training split; and a sentence on both."""
    import torch  # it takes seconds to load, as what uses it

    from bowerbird.nn.linear_probe import FITTED_SHARE, LabeledRows, linear_probe, second_means

    try:
        chosen = first_training_utterances(graph.paths.manifest, frames.shards, PROBED_SPEAKERS, PROBED_UTTERANCES)
    except BowerbirdError as error:
        return [], f"not measured ({error})"
    number = {name: place for place, name in enumerate(sorted(set(chosen["speaker"])))}
    rows: dict[str, list[LabeledRows]] = {"a frame": [], "a second": []}
    for utt_id, speaker in zip(chosen["utt_id"], chosen["speaker"], strict=True):
        values = torch.from_numpy(np.array(frames.shards[utt_id], dtype=np.float32))
        cut, label = int(len(values) * FITTED_SHARE), {"speaker": number[speaker]}
        for start, stop in ((0, cut), (cut, len(values))):
            is_fitted = start < cut
            rows["a frame"].append(LabeledRows.alike(values[start:stop], label, is_fitted))
            rows["a second"].append(LabeledRows.alike(second_means(values, start, stop), label, is_fitted))
    joined = {source: LabeledRows.join(parts) for source, parts in rows.items()}
    scores = {source: linear_probe(part, "speaker") for source, part in joined.items() if part.can_be_probed}
    accuracies = [SpeakerAccuracy(source, score.accuracy, score.chance_level) for source, score in scores.items()]
    if not accuracies:
        return [], "not measured (utterances of one row)"
    return accuracies, f"of {len(number)} speakers {describe_accuracies(accuracies)}"
