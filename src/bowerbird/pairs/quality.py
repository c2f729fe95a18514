"""How good the pairs are: do the retrieved frames say what the query says?

Cosine alone cannot tell (the nearest of anything is near). Unit agreement can: how often a retrieved frame has the
query's code, against what random frames of the same pool would give, which is known exactly from the pool's histogram
of codes.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.artifacts import BowerbirdError, Identity, RunRecord, inputs_digest
from bowerbird.config import PairsConfig
from bowerbird.tables import Shards, read_identity, read_table, write_table

from .plan import FRAMES_PER_SECOND, Speech, pool_clips
from .store import PairShards

log = logging.getLogger(__name__)


def summarise_pairs(manifest: Path, pairs: list[Path], features: list[Path], output: Path,
                    units: list[Path] | None = None) -> None:
    """Summarise the quality of retrieval, one row a target utterance and donor.

    Columns: cosine_mean, cosine_p10, cosine_p50, cosine_p90 over frames and neighbours; coverage (share of the pool's
    frames that are retrieved at all); hubness (skewness of how often each pool frame is retrieved) and
    most_retrieved; unit_agreement (share of retrieved frames with the query's code), unit_agreement_nearest (of the
    first neighbour) and unit_agreement_random (expected of random frames of the pool); the three are NaN without
    ``units``.
    """
    from bowerbird.pairs import VERSION

    inputs = {"manifest": inputs_digest([manifest]), "pairs": inputs_digest(pairs), "features": inputs_digest(features)}
    if units:
        inputs["units"] = inputs_digest(units)
    identity = Identity("pairs.quality", VERSION, {}, inputs)
    with RunRecord() as record:
        stored, speech = PairShards(pairs), Speech(manifest, features)
        options = stored_options(pairs[0])
        codes = _UnitRows(Shards(units), speech) if units else None
        table, hubs = _measure(stored, speech, options, codes)
        facts = quality_facts(table, hubs)
        record.extra["facts"] = facts
        record.write(output, identity)
        write_table(output, table, identity, extra={"facts": facts, "method": options.method, "k": options.k})


def stored_options(path: Path) -> PairsConfig:
    """The options that a pairs shard was made with, from its own record."""
    params = read_identity(path.with_suffix(".parquet")).get("params", {})
    known = {key: value for key, value in params.items() if key in PairsConfig.model_fields}
    return PairsConfig(**known)


class _UnitRows:
    """Codes by feature row: ``codes[file]`` has one code for each row of feature shard number ``file``."""

    def __init__(self, units: Shards, speech: Speech) -> None:
        both = speech.shards.index.merge(units.index, on="utt_id", how="left", suffixes=("", "_units"))
        same = (both["start"] == both["start_units"]) & (both["frames"] == both["frames_units"])
        if not same.all() or [len(a) for a in units.arrays] != [len(a) for a in speech.shards.arrays]:
            lost = both.loc[~same, "utt_id"]
            raise BowerbirdError(f"units: {lost.iloc[0] if len(lost) else 'shards'}: not the rows of these features; "
                                 "make the units from the same features")
        self._arrays = {number: units.arrays[place] for number, place in speech.position.items()}
        self.num_codes = 1 + max((int(array.max()) for array in units.arrays if len(array)), default=0)

    def __getitem__(self, file: int) -> np.ndarray:
        return self._arrays[file]

    def histogram(self, file: int, rows: np.ndarray) -> np.ndarray:
        """How often each code occurs in ``rows`` of a shard, int64 ``(K,)``."""
        return np.bincount(self[file][rows], minlength=self.num_codes)


def _measure(pairs: PairShards, speech: Speech, options: PairsConfig,
             codes: _UnitRows | None) -> tuple[pd.DataFrame, list[dict[str, float]]]:
    """Rows of the table in the order of the index, and coverage and hubness of each donor pool over all its queries."""
    clips = {clip.utt_id: clip for own in speech.by_speaker.values() for clip in own}
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(pairs.index["donor_speaker"], pairs.index["donor_session"], strict=True)):
        groups[key].append(row)
    rows: list[dict[str, Any]] = [{} for _ in range(len(pairs))]
    hubs = []
    for (donor, session), members in sorted(groups.items()):
        own = speech.by_speaker[donor]
        limit = options.model_copy(update={"max_pool_s": 0.0}) if options.same_speaker else options
        pool = pool_clips(own, limit, session)
        pool_rows = np.concatenate([np.arange(clip.start, clip.start + clip.frames) for clip in pool])
        times = np.zeros(len(pool_rows), dtype=np.int64)  # N_k: how often each pool frame is retrieved
        histogram = codes.histogram(pool[0].file, pool_rows) if codes is not None else None
        for row in members:
            target = clips[pairs.index["utt_id"].iloc[row]]
            found = pairs.indices(row)
            counts = np.bincount(np.searchsorted(pool_rows, found.ravel()), minlength=len(pool_rows))
            times += counts
            allowed, shares = counts, histogram
            if options.same_speaker:  # the pool of this target is smaller: without itself
                kept = {clip.utt_id for clip in pool_clips(own, options, session, without=target.utt_id)}
                mask = np.concatenate([np.full(clip.frames, clip.utt_id in kept) for clip in pool])
                allowed = counts[mask]
                if codes is not None:
                    shares = codes.histogram(pool[0].file, pool_rows[mask])
            cosine = 1 - np.asarray(pairs.distances(row), dtype=np.float64)
            low, middle, high = np.quantile(cosine, (0.1, 0.5, 0.9))
            rows[row] = {
                "utt_id": target.utt_id, "variant": int(pairs.index["variant"].iloc[row]), "speaker": target.speaker,
                "donor_speaker": donor, "split": target.split, "gender": target.gender, "donor_gender": own[0].gender,
                "frames": target.frames, "pool_frames": len(allowed),
                "cosine_mean": cosine.mean(), "cosine_p10": low, "cosine_p50": middle, "cosine_p90": high,
                "coverage": (allowed > 0).mean(), "hubness": skewness(allowed), "most_retrieved": int(allowed.max()),
                **_agreement(codes, target.file, target.start, target.frames, pool[0].file, found, shares),
            }
        hubs.append({"coverage": (times > 0).mean(), "hubness": skewness(times), "most_retrieved": float(times.max())})
    return pd.DataFrame(rows), hubs


def _agreement(codes: _UnitRows | None, file: int, start: int, frames: int, donor_file: int, found: np.ndarray,
               histogram: np.ndarray | None) -> dict[str, float]:
    if codes is None or histogram is None:
        names = ("unit_agreement", "unit_agreement_nearest", "unit_agreement_random")
        return dict.fromkeys(names, float("nan"))
    query = np.asarray(codes[file][start : start + frames])
    same = codes[donor_file][found] == query[:, None]
    return {
        "unit_agreement": same.mean(),
        "unit_agreement_nearest": same[:, 0].mean(),
        "unit_agreement_random": (histogram[query] / histogram.sum()).mean(),
    }


def skewness(counts: np.ndarray) -> float:
    """Third standardised moment: hubness is the skewness of N_k (Radovanović et al. 2010); 0 for constant counts."""
    centred = counts - counts.mean()
    variance = np.square(centred).mean()
    return float((centred**3).mean() / variance**1.5) if variance > 0 else 0.0


def quality_facts(table: pd.DataFrame, hubs: list[dict[str, float]]) -> dict[str, Any]:
    """Means over the table weighted by frames, and means over donor pools (all queries of a pool together)."""
    facts: dict[str, Any] = {"pairs": len(table), "frames": int(table["frames"].sum()) if len(table) else 0}
    if not len(table):
        return facts
    facts["hours"] = round(facts["frames"] / FRAMES_PER_SECOND / 3600, 4)
    names = ["cosine_mean", "unit_agreement", "unit_agreement_nearest", "unit_agreement_random"]
    known = [name for name in names if table[name].notna().all()]
    facts |= {name: float(np.average(table[name], weights=table["frames"])) for name in known}
    for name in ("coverage", "hubness", "most_retrieved"):
        facts[f"donor_{name}"] = float(np.mean([hub[name] for hub in hubs]))
    return facts


def quality_table(path: Path) -> str:
    """One quality.parquet as text: by gender of target and donor, and overall."""
    table = read_table(path)
    if not len(table):
        return f"{path}: no pairs"
    record = read_identity(path)
    columns = {"cosine_mean": "cosine", "coverage": "coverage", "hubness": "hubness", "unit_agreement": "agreement",
               "unit_agreement_nearest": "nearest", "unit_agreement_random": "random"}
    direction = table["gender"].where(table["gender"] != "", "?") + " -> " + table["donor_gender"].where(
        table["donor_gender"] != "", "?")
    lines = [f"{path}  ({record.get('method', '')}, k = {record.get('k', '')})",
             f"{'target -> donor':<16}{'pairs':>8}{'frames':>10}" + "".join(f"{name:>11}" for name in columns.values())]
    parts = [(name, part) for name, part in table.groupby(direction, sort=True)] + [("all", table)]
    for name, part in parts:
        means = [np.average(part[column], weights=part["frames"]) for column in columns]
        cells = "".join(f"{'-' if np.isnan(mean) else format(mean, '.3f'):>11}" for mean in means)
        lines.append(f"{name:<16}{len(part):>8}{int(part['frames'].sum()):>10}{cells}")
    return "\n".join(lines)


def print_quality(quality: list[Path]) -> None:
    """Print the quality of one or several variants of pairs as tables.

    cosine: of query and retrieved frames; coverage: share of the pool retrieved; hubness: skewness of retrievals;
    agreement: share of retrieved frames with the query's unit, nearest: of the first neighbour, random: of random
    frames.
    """
    print("\n\n".join(quality_table(path) for path in quality))
