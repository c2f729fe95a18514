"""The portrait of a variant of features, pairs or codebook: its numbers in words, its pictures, and frames to listen to.

What is odd is said as such, beside what would be expected: a number without its chance level tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.errors import BowerbirdError
from bowerbird.inspection.kinship import Kinship
from bowerbird.inspection.statistics import (
    POOL,
    Drift,
    Frames,
    Hubs,
    Leak,
    Neighbour,
    guess_speakers,
    measure_drift,
    measure_hubs,
    measure_spread,
    measure_use_drift,
    named,
    nearest_frames,
    read_units,
)

KINDS = ("features", "codebook", "pairs")


HUBS = 6  # hub frames one can listen to


PAIRS = 300  # pairs that are looked at


PROBED = (40, 4)  # speakers, and utterances of each, that the linear probes see


Draw = Callable[[Any], None]


@dataclass
class Portrait:
    """What was found. ``facts`` are lines of text by heading, ``panels`` what to draw with its caption."""

    kind: str
    name: str
    facts: dict[str, str] = field(default_factory=dict)
    panels: list[tuple[Draw, str]] = field(default_factory=list)
    hubs: list[tuple[Neighbour, int]] = field(default_factory=list)  # with how often each is retrieved
    asked: Neighbour | None = None
    asked_note: str = ""
    neighbours: list[Neighbour] = field(default_factory=list)


def draw_portrait(kinship: Kinship, kind: str, name: str, frame: str, count: int) -> Portrait:
    """Measure one variant; ``frame`` (UTTERANCE:NUMBER) is the frame whose ``count`` neighbours are looked for, or ""."""
    if kinship.config is None or name not in getattr(kinship.config, kind):
        raise BowerbirdError(f"{kinship.root / kind / name}: the run's config.yaml has no such variant of {kind}")
    portrait = Portrait(kind, name)
    {"features": _features, "codebook": _codebook, "pairs": _pairs}[kind](portrait, kinship, frame, count)
    return portrait


def split_frame(frame: str) -> tuple[str, int]:
    """Utterance and number of ``UTTERANCE:NUMBER``."""
    utt_id, _, number = frame.rpartition(":")
    if not utt_id or not number.isdecimal():
        raise BowerbirdError(f"--frame: {frame!r}: give an utterance and a frame of it, 20 ms each: UTTERANCE:NUMBER")
    return utt_id, int(number)


def _features(portrait: Portrait, kinship: Kinship, frame: str, count: int) -> None:
    frames = Frames(kinship.layout.all_shards("features", portrait.name), kinship.layout.manifest)
    sample = frames.sample()
    spread = measure_spread(sample.values)
    facts, dims = portrait.facts, sample.values.shape[1]
    facts["values"] = (
        f"mean {sample.values.mean():.4g}, std {sample.values.std():.4g}, range "
        f"{sample.values.min():.4g} to {sample.values.max():.4g}"
    )
    facts["dead"] = f"{spread.dead} of {dims} dimensions never change"
    facts["rank"] = (
        f"{spread.effective_rank:.1f} of {dims} dimensions in effect (participation ratio of the variance); "
        f"{spread.directions_of(0.9)} directions hold 90 % of it, {spread.directions_of(0.99)} 99 %"
    )
    drift = measure_drift(sample.values, sample.file, sample.speaker, spread.deviations)
    facts["drift"] = _drift_words(drift, "standard deviations between a shard's mean and the others'")
    few = frames.sample(POOL)
    hubs = measure_hubs(few)
    _hub_words(facts, hubs, f"among {len(few.values)} frames")
    portrait.hubs = [
        (named(frames, int(few.file[place]), int(few.row[place]), 1.0), int(hubs.times[place]))
        for place in hubs.top(HUBS)
    ]
    leaks = _probe_speakers(kinship, frames, facts)
    portrait.panels += [
        _spectrum(spread.variances, "Variance by principal direction, largest first. A cliff far left is a collapse."),
        _deviations(spread.deviations),
        *_drift_panel(drift, "distance, standard deviations"),
        _hub_panel(hubs, "frames"),
        *_leak_panel(leaks, "What a linear probe knows of the speaker, from a frame and from the mean of a second."),
    ]
    if frame:
        _ask_frames(portrait, frames, frame, count)


def _ask_frames(portrait: Portrait, frames: Frames, frame: str, count: int) -> None:
    utt_id, number = split_frame(frame)
    file, row = frames.place(utt_id, number)
    portrait.asked = named(frames, file, row, 1.0)
    portrait.neighbours = nearest_frames(frames, utt_id, number, count)
    portrait.asked_note = "its nearest frames in other utterances, by cosine, over the whole variant"


def _probe_speakers(kinship: Kinship, frames: Frames, facts: dict[str, str]) -> list[Leak]:
    """Linear probes for the speaker on frames, and on means of a second, of the training split."""
    import torch

    from bowerbird.stages.codebook.residual import FITTED, SEGMENT, Part, choose_utterances, probe

    try:
        chosen = choose_utterances(kinship.layout.manifest, frames.shards, *PROBED)
    except BowerbirdError as error:
        facts["leakage"] = f"not measured ({error})"
        return []
    number = {name: place for place, name in enumerate(sorted(set(chosen["speaker"])))}
    rows: dict[str, list[tuple[Any, int, bool]]] = {"a frame": [], "a second": []}  # values (n, dim), speaker, fitting
    for utt_id, speaker in zip(chosen["utt_id"], chosen["speaker"], strict=True):
        values = torch.from_numpy(np.array(frames.shards[utt_id], dtype=np.float32))
        cut = int(len(values) * FITTED)
        for start, stop, fitted in ((0, cut, True), (cut, len(values), False)):
            seconds = [values[a : a + SEGMENT].mean(dim=0) for a in range(start, stop - SEGMENT // 2, SEGMENT)]
            rows["a frame"].append((values[start:stop], number[speaker], fitted))
            rows["a second"] += [(row[None], number[speaker], fitted) for row in seconds]
    leaks = []
    for what, found in rows.items():
        sizes = torch.tensor([len(values) for values, _, _ in found])
        fitting = torch.tensor([fitted for _, _, fitted in found], dtype=torch.bool).repeat_interleave(sizes)
        if fitting.any() and not fitting.all():
            labels = torch.tensor([label for _, label, _ in found]).repeat_interleave(sizes)
            part = Part(torch.cat([values for values, _, _ in found]), {"speaker": labels}, fitting)
            got = probe(part, "speaker")
            leaks.append(Leak(what, got["accuracy"], got["chance"]))
    said = [f"{leak.what} tells {100 * leak.accuracy:.1f} % (chance {100 * leak.chance:.1f} %)" for leak in leaks]
    facts["leakage"] = (
        f"of {len(number)} speakers " + ", ".join(said) if said else "not measured (utterances of one row)"
    )
    return leaks


def _codebook(portrait: Portrait, kinship: Kinship, frame: str, count: int) -> None:
    from bowerbird.artifacts.codebook import Codebook
    from bowerbird.stages.codebook.usage import perplexity

    assert kinship.config is not None
    section = kinship.config.codebook[portrait.name]
    book = Codebook.load(kinship.layout.codebook(portrait.name))
    units = Frames(kinship.layout.all_shards("units", portrait.name), kinship.layout.manifest)
    facts, codes = portrait.facts, len(book.centroids)
    sample = units.sample(10 * POOL)
    values = sample.values.astype(np.int64)
    used = np.bincount(values, minlength=codes)
    facts["codes"] = f"{codes}, {(used == 0).sum()} dead; perplexity {perplexity(used):.1f}"
    spread = measure_spread(book.centroids)
    facts["rank"] = f"{spread.effective_rank:.1f} of {book.centroids.shape[1]} dimensions in effect; {spread.dead} dead"
    near = book.centroids / np.maximum(np.linalg.norm(book.centroids, axis=1, keepdims=True), 1.0e-12)
    cosine = near @ near.T - 2 * np.eye(codes, dtype=np.float32)
    facts["collapse"] = (
        f"{int((cosine.max(axis=1) > 0.999).sum())} codes have a twin (cosine above 0.999); nearest other "
        f"centroid: cosine {float(np.median(cosine.max(axis=1))):.3f} in the median"
    )
    drift = measure_use_drift(values, codes, sample.file, sample.speaker)
    facts["drift"] = _drift_words(drift, "standard deviations between a shard's use of a code and the others'")
    top = np.sort(used)[::-1]
    facts["hubs"] = (
        f"the most used hundredth of the codes takes {100 * top[: max(1, codes // 100)].sum() / top.sum():.1f} %"
    )
    starts = units.shards.index.set_index("utt_id")
    ends = starts.loc[sample.utt_id, "start"].to_numpy() + starts.loc[sample.utt_id, "frames"].to_numpy() * 2 / 3
    leak = read_units(values, sample.speaker, sample.row < ends)
    facts["leakage"] = (
        f"of {len(set(sample.speaker))} speakers a unit tells {100 * leak.accuracy:.1f} % "
        f"(chance {100 * leak.chance:.1f} %)"
    )
    portrait.panels += [
        _spectrum(spread.variances, "Variance of the centroids by principal direction, largest first."),
        _usage(top / top.sum()),
        *_drift_panel(drift, "distance of use, standard deviations"),
        *_leak_panel([leak], "What a code alone tells of the speaker: the one who used it most, in other speech."),
    ]
    if frame:
        _ask_code(portrait, kinship, units, section.features, frame, count)


def _ask_code(portrait: Portrait, kinship: Kinship, units: Frames, features: str, frame: str, count: int) -> None:
    """The code of a frame, and the frames with the same code that are nearest to it."""
    utt_id, number = split_frame(frame)
    file, row = units.place(utt_id, number)
    code = int(units.shards[utt_id][number])
    frames = Frames(kinship.layout.all_shards("features", features), kinship.layout.manifest)
    near = nearest_frames(frames, utt_id, number, 50 * count)
    same = [other for other in near if int(units.shards[other.utt_id][other.frame]) == code]
    portrait.asked = named(units, file, row, 1.0)
    portrait.neighbours = same[:count]
    portrait.asked_note = (
        f"code {code}; of its {len(near)} nearest frames in other utterances {len(same)} have the same code; "
        "the nearest of those"
    )


def _pairs(portrait: Portrait, kinship: Kinship, frame: str, count: int) -> None:
    from bowerbird.artifacts.pairs import PairShards

    assert kinship.config is not None
    section = kinship.config.pairs[portrait.name]
    frames = Frames(kinship.layout.all_shards("features", section.features), kinship.layout.manifest)
    pairs = PairShards(kinship.layout.all_shards("pairs", portrait.name))
    facts = portrait.facts
    if not len(pairs):
        raise BowerbirdError(f"{kinship.root / 'pairs' / portrait.name}: no pairs in it; nothing to measure")
    cosine = np.concatenate(
        [
            1 - np.asarray(array[:: max(1, len(array) // POOL)], dtype=np.float32)
            for array in pairs.distance_arrays
            if len(array)
        ]
    )
    facts["pairs"] = f"{len(pairs)} of {pairs.index['utt_id'].nunique()} utterances, k = {pairs.k}"
    facts["cosine"] = "by place of the neighbour: " + ", ".join(f"{value:.3f}" for value in cosine.mean(axis=0))
    hubs, where = _retrieved(pairs, frames)
    _hub_words(facts, hubs, "of the donors' frames, over every pair")
    top = [(where[place], int(hubs.times[place])) for place in hubs.top(HUBS)]
    portrait.hubs = [(named(frames, file, row, 1.0), times) for (file, row), times in top]
    rows = np.unique(np.linspace(0, len(pairs) - 1, min(PAIRS, len(pairs))).astype(int))
    made = [pairs.retrieved(int(row), frames.shards) for row in rows]
    target = [np.asarray(frames.shards[pairs.index["utt_id"].iloc[row]], dtype=np.float32) for row in rows]
    ratio = float(np.concatenate(made).var(axis=0).sum() / np.concatenate(target).var(axis=0).sum())
    spread = measure_spread(np.concatenate(made))
    facts["collapse"] = (
        f"the mean of the neighbours keeps {100 * ratio:.1f} % of the targets' variance; "
        f"{spread.effective_rank:.1f} dimensions in effect"
    )
    sample = frames.sample()
    guess = guess_speakers(sample.values, sample.speaker, np.stack([values.mean(axis=0) for values in made]))
    leaks = [
        Leak(who, float((guess == pairs.index[column].to_numpy(str)[rows]).mean()), 1 / len(set(sample.speaker)))
        for who, column in (("the donor", "donor_speaker"), ("the target", "speaker"))
    ]
    facts["leakage"] = (
        "the mean of what is retrieved sounds like "
        + ", ".join(f"{leak.what} in {100 * leak.accuracy:.1f} %" for leak in leaks)
        + f" of {len(rows)} pairs (chance {100 * leaks[0].chance:.1f} %)"
    )
    nearness = np.array([1 - float(np.mean(pairs.distances(row), dtype=np.float64)) for row in range(len(pairs))])
    files, speakers = pairs.index["file"].to_numpy(), pairs.index["speaker"].to_numpy(object)
    drift = measure_drift(nearness[:, None], files, speakers, np.array([nearness.std()]))
    facts["drift"] = _drift_words(drift, "standard deviations between a shard's mean cosine and the others'")
    portrait.panels += [
        _spectrum(spread.variances, "Variance of the retrieved and averaged frames, by principal direction."),
        _by_place(cosine),
        *_drift_panel(drift, "distance of cosine, standard deviations"),
        _hub_panel(hubs, "frames of the donors"),
        *_leak_panel(leaks, "Whose voice the retrieved frames have: the donor's is wanted, the target's is a leak."),
    ]
    if frame:
        _ask_pairs(portrait, pairs, frames, frame, count)


def _retrieved(pairs: Any, frames: Frames) -> tuple[Hubs, list[tuple[int, int]]]:
    """How often each frame of a shard is retrieved, over every pair; and the shard and row of each."""
    times: dict[int, np.ndarray] = {}
    for row in range(len(pairs)):
        file = int(pairs.index["donor_file"].iloc[row])
        counts = times.setdefault(file, np.zeros(len(frames.shards.arrays[file]), dtype=np.int64))
        counts += np.bincount(np.asarray(pairs.indices(row)).ravel(), minlength=len(counts))
    donors = set(pairs.index["donor_speaker"])
    kept, where = [], []
    for file, counts in sorted(times.items()):
        names, _ = frames.names(file, np.arange(len(counts)))
        mine = np.array([frames.speaker_of.get(name, "") in donors for name in names])
        kept.append(counts[mine])
        where += [(file, int(row)) for row in np.flatnonzero(mine)]
    return Hubs(np.concatenate(kept), pairs.k), where


def _ask_pairs(portrait: Portrait, pairs: Any, frames: Frames, frame: str, count: int) -> None:
    """What was retrieved for a frame, of each donor."""
    utt_id, number = split_frame(frame)
    mine = np.flatnonzero(pairs.index["utt_id"].to_numpy(object) == utt_id)
    if not len(mine):
        raise BowerbirdError(
            f"--frame: {utt_id!r}: no pairs of this utterance (pairs are of the splits train and valid)"
        )
    portrait.asked = named(frames, *frames.place(utt_id, number), 1.0)
    for row in mine:
        file = int(pairs.index["donor_file"].iloc[row])
        near = zip(pairs.indices(row)[number], pairs.distances(row)[number], strict=True)
        portrait.neighbours += [named(frames, file, int(place), 1 - float(distance)) for place, distance in near]
    donors = ", ".join(sorted(set(pairs.index["donor_speaker"].iloc[mine])))
    portrait.neighbours, portrait.asked_note = portrait.neighbours[:count], f"what was retrieved for it of {donors}"


def _drift_words(drift: Drift | None, unit: str) -> str:
    if drift is None:
        return "no other shard to compare with"
    worst = int(drift.distances.argmax())
    said = f"{drift.distances[worst]:.3f} {unit} (shard {drift.shards[worst]}, the farthest; {drift.by_chance[worst]:.3f} where speakers are dealt anew)"
    suspects = ", ".join(map(str, drift.suspects))
    return f"{said}; MORE THAN SPEAKERS EXPLAIN: shard {suspects}" if suspects else said


def _hub_words(facts: dict[str, str], hubs: Hubs, among: str) -> None:
    facts["hubs"] = (
        f"skewness of N_{hubs.k} {hubs.skewness:.2f} {among}; the most retrieved hundredth takes "
        f"{100 * hubs.top_share:.1f} % of places, the first {int(hubs.times.max())}; "
        f"{100 * hubs.never:.1f} % are never retrieved"
    )


def _spectrum(variances: np.ndarray, caption: str) -> tuple[Draw, str]:
    def draw(axes: Any) -> None:
        from bowerbird.stages.report.figures import GOLD

        share = variances / max(float(variances.sum()), 1.0e-12)
        axes.semilogy(np.arange(1, len(share) + 1), np.maximum(share, 1.0e-9), color=GOLD, lw=1.4)
        axes.set(xlabel="principal direction", ylabel="share of the variance", xlim=(1, max(2, len(share))))
        axes.yaxis.set_major_formatter(_plain)
        axes.grid(True, axis="y")

    return draw, caption


def _plain(value: float, _: int) -> str:
    """A number of a logarithmic axis without mark-up, which pictures here do not parse."""
    return f"{value:g}"


def _deviations(deviations: np.ndarray) -> tuple[Draw, str]:
    def draw(axes: Any) -> None:
        from bowerbird.stages.report.figures import BLUE

        ordered = np.sort(deviations)[::-1]
        axes.fill_between(np.arange(1, len(ordered) + 1), ordered, color=BLUE, step="mid", alpha=0.75, lw=0)
        axes.set(xlabel="dimensions, widest first", ylabel="standard deviation", ylim=(0, None), xlim=(1, len(ordered)))

    return draw, "How far each dimension moves. Dead ones are flat at 0, one that dwarfs the rest rules every cosine."


def _drift_panel(drift: Drift | None, label: str) -> list[tuple[Draw, str]]:
    if drift is None:
        return []

    def draw(axes: Any) -> None:
        from bowerbird.stages.report.figures import GOLD, INK, RUST

        places = drift.shards
        colours = [RUST if place in drift.suspects else GOLD for place in places]
        axes.bar(places, drift.distances, 0.6, color=colours, alpha=0.8)
        axes.hlines(drift.by_chance, places - 0.36, places + 0.36, color=INK, lw=1)
        axes.set(xlabel="shard", ylabel=label, ylim=(0, None), xlim=(-0.8, places.max() + 0.8))
        axes.xaxis.get_major_locator().set_params(integer=True)

    return [(draw, "Each shard against the others. Line: what speakers alone explain, in nineteen deals of twenty.")]


def _hub_panel(hubs: Hubs, what: str) -> tuple[Draw, str]:
    def draw(axes: Any) -> None:
        from bowerbird.stages.report.figures import MOSS

        most = max(int(hubs.times.max()), 1)
        axes.hist(hubs.times, bins=np.linspace(-0.5, most + 0.5, min(most + 2, 50)), color=MOSS, alpha=0.75, log=True)
        axes.set(xlabel=f"times among the {hubs.k} nearest", ylabel=what)
        axes.yaxis.set_major_formatter(_plain)

    return draw, "How often a frame is retrieved. A long tail to the right are hubs: they are near to everything."


def _leak_panel(leaks: list[Leak], caption: str) -> list[tuple[Draw, str]]:
    if not leaks:
        return []

    def draw(axes: Any) -> None:
        from bowerbird.stages.report.figures import GOLD, INK

        places = np.arange(len(leaks))
        axes.bar(places, [100 * leak.accuracy for leak in leaks], 0.5, color=GOLD, alpha=0.8)
        axes.hlines([100 * leak.chance for leak in leaks], places - 0.32, places + 0.32, color=INK, lw=1)
        axes.set_xticks(places, [leak.what for leak in leaks])
        axes.set(ylabel="speaker recognized, %", ylim=(0, 100), xlim=(-0.7, max(len(leaks), 2) - 0.3))

    return [(draw, f"{caption} Line: chance.")]


def _usage(share: np.ndarray) -> tuple[Draw, str]:
    def draw(axes: Any) -> None:
        from bowerbird.stages.report.figures import BLUE, SOFT

        axes.fill_between(np.arange(1, len(share) + 1), 100 * share, color=BLUE, step="mid", alpha=0.75, lw=0)
        axes.axhline(100 / len(share), color=SOFT, lw=0.8, ls=(0, (3, 3)))
        axes.set(xlabel="codes, most used first", ylabel="share of frames, %", ylim=(0, None), xlim=(1, len(share)))

    return draw, "Use of the codes; dashed: if all were used equally."


def _by_place(cosine: np.ndarray) -> tuple[Draw, str]:
    def draw(axes: Any) -> None:
        from bowerbird.stages.report.figures import BLUE

        low, middle, high = np.quantile(cosine, (0.1, 0.5, 0.9), axis=0)
        places = np.arange(1, cosine.shape[1] + 1)
        axes.fill_between(places, low, high, color=BLUE, alpha=0.2, lw=0)
        axes.plot(places, middle, "o-", color=BLUE, ms=4, lw=1.2)
        axes.set(xlabel="place of the neighbour", ylabel="cosine to the query")
        axes.xaxis.get_major_locator().set_params(integer=True)

    return draw, "How near the neighbours are: median, and the middle eight tenths of frames."


def variant_of(path: Path, root: Path) -> tuple[str, str]:
    """(kind, variant) of a path of features, codebook or pairs; ("", "") of any other."""
    parts = path.relative_to(root).parts
    return (parts[0], parts[1]) if len(parts) > 1 and parts[0] in KINDS else ("", "")
