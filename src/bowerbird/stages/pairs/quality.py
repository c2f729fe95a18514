"""`summarize-pairs`: how good the pairs are, by whether retrieved frames agree with the query in content.

Cosine alone cannot tell (the nearest of anything is near). Agreement can: how often a retrieved frame has the query's code, or
its phone, beside what random frames of the same pool give, which is known exactly from the pool's histogram.

Letters: ``T`` frames, ``k`` neighbors, ``P`` frames of a pool, ``K`` codes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bowerbird.artifacts.identity import Identity, RunRecord, input_digests
from bowerbird.artifacts.pairs import PairShards
from bowerbird.artifacts.shards import Shards, parameters_of
from bowerbird.artifacts.tables import read_identity, read_table, write_table
from bowerbird.artifacts.text_tables import TableColumn, format_table
from bowerbird.audio import FRAMES_PER_SECOND
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.stages.pairs import VERSION
from bowerbird.stages.pairs.frame_codes import FrameCodes, phone_codes, unit_codes
from bowerbird.stages.pairs.pools import DonorPool, skewness
from bowerbird.stages.pairs.speech import Clip, PairableSpeech

AGREEMENTS = {
    kind: (f"{kind}_agreement", f"{kind}_agreement_nearest", f"{kind}_agreement_random") for kind in ("unit", "phone")
}


def summarize_pairs(
    manifest: Path,
    pairs: list[Path],
    features: list[Path],
    output: Path,
    units: list[Path] | None = None,
    audio: list[Path] | None = None,
    phonetic: str = "",
) -> None:
    """Summarize the quality of retrieval, one row per target utterance and donor.

    Columns: cosine_mean, cosine_p10, cosine_p50, cosine_p90 over frames and neighbors; coverage (share of the pool's
    frames that are retrieved at all); hubness (skewness of how often each pool frame is retrieved) and
    most_retrieved; unit_agreement (share of retrieved frames with the query's code), unit_agreement_nearest (of the
    first neighbor) and unit_agreement_random (expected of random frames of the pool); the three are NaN without
    ``units``. phone_agreement, phone_agreement_nearest and phone_agreement_random are the same of phones; NaN without
    ``phonetic``. Its phones are read from the features where they are of its own layer, and from ``audio`` elsewhere.
    """
    inputs = {"manifest": [manifest], "pairs": pairs, "features": features, "units": units or []}
    inputs["audio"] = (audio or []) if phonetic else []
    identity = Identity("pairs.quality", VERSION, {"phonetic": phonetic}, input_digests(inputs))
    record = RunRecord()
    stored, speech = PairShards(pairs), PairableSpeech(manifest, features)
    options = stored_options(pairs[0])
    codes: dict[str, FrameCodes] = {}
    if units:
        codes["unit"] = unit_codes(Shards(units), speech)
    if phonetic:
        codes["phone"] = phone_codes(phonetic, speech, audio or [])
    table, pools = measure_pairs(stored, speech, options, codes)
    stats = quality_stats(table, pools)
    record.extra["facts"] = stats
    record.write(output, identity)
    write_table(output, table, identity, extra={"facts": stats, "method": options.method, "k": options.k})


def stored_options(path: Path) -> PairsConfig:
    """The options that a pairs shard was made with, from its own record."""
    params = parameters_of(path)
    return PairsConfig(**{key: value for key, value in params.items() if key in PairsConfig.model_fields})


@dataclass(frozen=True)
class PoolUse:
    """How often each frame of a donor's pool is retrieved, by one query utterance or by all of them."""

    times: np.ndarray  # (P,) int64: N_k

    def columns(self) -> dict[str, Any]:
        """Coverage, hubness, and how often the most retrieved frame is."""
        return {
            "coverage": (self.times > 0).mean(),
            "hubness": skewness(self.times),
            "most_retrieved": int(self.times.max()),
        }


def measure_pairs(
    stored: PairShards, speech: PairableSpeech, options: PairsConfig, codes: dict[str, FrameCodes]
) -> tuple[pd.DataFrame, list[PoolUse]]:
    """One row per pair in the order of the index, and the use of each donor's pool by all its queries."""
    clips = {clip.utt_id: clip for own in speech.by_speaker.values() for clip in own}
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(stored.index["donor_speaker"], stored.index["donor_session"], strict=True)):
        groups[key].append(row)
    rows: list[dict[str, Any]] = [{} for _ in range(len(stored))]
    pools = []
    for (donor, session), members in sorted(groups.items()):
        pool = DonorPool(speech.by_speaker[donor], options, session)
        histograms = {kind: found.histogram(pool.file, pool.rows) for kind, found in codes.items()}
        total = np.zeros(len(pool.rows), dtype=np.int64)
        for row in members:
            target, retrieved = clips[stored.index["utt_id"].iloc[row]], stored.indices(row)
            times = np.bincount(np.searchsorted(pool.rows, retrieved.ravel()), minlength=len(pool.rows))
            total += times
            allowed, expected = pool.allowed_for(target), histograms
            if allowed is not None:
                times = times[allowed]
                expected = {kind: found.histogram(pool.file, pool.rows[allowed]) for kind, found in codes.items()}
            rows[row] = {
                **_target_columns(target, speech.by_speaker[donor][0], int(stored.index["variant"].iloc[row])),
                "pool_frames": len(times),
                **_cosine_columns(stored.distances(row)),
                **PoolUse(times).columns(),
                **_agreements(target, pool.file, retrieved, codes, expected),
            }
        pools.append(PoolUse(total))
    return pd.DataFrame(rows), pools


def _target_columns(target: Clip, donor: Clip, variant: int) -> dict[str, Any]:
    """The columns that name the target utterance and its donor; ``donor`` is any clip of the donor."""
    return {
        "utt_id": target.utt_id,
        "variant": variant,
        "speaker": target.speaker,
        "donor_speaker": donor.speaker,
        "split": target.split,
        "gender": target.gender,
        "donor_gender": donor.gender,
        "language": target.language,
        "donor_language": donor.language,
        "frames": target.frames,
    }


def _cosine_columns(distances: np.ndarray) -> dict[str, float]:
    """Mean and quantiles of the cosines behind ``distances (T, k)``."""
    cosine = 1 - np.asarray(distances, dtype=np.float64)
    low, middle, high = np.quantile(cosine, (0.1, 0.5, 0.9))
    return {"cosine_mean": cosine.mean(), "cosine_p10": low, "cosine_p50": middle, "cosine_p90": high}


def _agreements(
    target: Clip,
    donor_file: int,
    retrieved: np.ndarray,
    codes: dict[str, FrameCodes],
    histograms: dict[str, np.ndarray],
) -> dict[str, float]:
    """Agreement of the ``retrieved (T, k)`` rows of the donor's shard with the target, for each kind of code; NaN without.

    ``histograms (K,)`` count the codes of the frames that were searched.
    """
    columns: dict[str, float] = {}
    for kind, names in AGREEMENTS.items():
        if kind not in codes:
            columns |= dict.fromkeys(names, float("nan"))
            continue
        query = np.asarray(codes[kind][target.file][target.start : target.start + target.frames])
        same = codes[kind][donor_file][retrieved] == query[:, None]
        expected = histograms[kind][query] / histograms[kind].sum()
        columns |= dict(zip(names, (same.mean(), same[:, 0].mean(), expected.mean()), strict=True))
    return columns


def quality_stats(table: pd.DataFrame, pools: list[PoolUse]) -> dict[str, Any]:
    """Means over the table weighted by frames, and means over donor pools (all queries of a pool together)."""
    stats: dict[str, Any] = {"pairs": len(table), "frames": int(table["frames"].sum()) if len(table) else 0}
    if not len(table):
        return stats
    stats["hours"] = round(stats["frames"] / FRAMES_PER_SECOND / 3600, 4)
    names = ["cosine_mean", *AGREEMENTS["unit"], *AGREEMENTS["phone"]]
    known = [name for name in names if table[name].notna().all()]
    stats |= {name: float(np.average(table[name], weights=table["frames"])) for name in known}
    uses = [pool.columns() for pool in pools]
    return stats | {f"donor_{name}": float(np.mean([use[name] for use in uses])) for name in uses[0]}


def quality_table(path: Path) -> str:
    """One quality.parquet as text: by gender and, where there are several, by language of target and donor; and overall."""
    table = read_table(path)
    if not len(table):
        return f"{path}: no pairs"
    record = read_identity(path)
    measured = {
        "cosine_mean": "cosine",
        "coverage": "coverage",
        "hubness": "hubness",
        "unit_agreement": "unit",
        "unit_agreement_random": "(random)",
        "phone_agreement": "phone",
        "phone_agreement_random": "(random)",
    }
    columns = [TableColumn("target -> donor"), TableColumn("pairs", "d", "right"), TableColumn("frames", "d", "right")]
    columns += [TableColumn(heading, ".3f", "right", "-") for heading in measured.values()]
    rows = []
    for name, part in _table_parts(table):
        means = [float(np.average(part[column], weights=part["frames"])) for column in measured]
        rows.append((name, len(part), int(part["frames"].sum()), *means))
    title = f"{path}  ({record.get('method', '')}, k = {record.get('k', '')})"
    return f"{title}\n{format_table(columns, rows)}"


def _table_parts(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The table by gender, by language where there are several, and as a whole."""
    gender, donor_gender = (table[name].where(table[name] != "", "?") for name in ("gender", "donor_gender"))
    keys = [gender + " -> " + donor_gender]
    if len(set(table["language"]) | set(table["donor_language"])) > 1:
        within = table["language"] == table["donor_language"]
        keys.append(table["language"] + " -> " + table["donor_language"])
        keys.append(within.map({True: "within languages", False: "across languages"}))
    return [(str(name), part) for key in keys for name, part in table.groupby(key, sort=True)] + [("all", table)]


def print_quality(quality: list[Path]) -> None:
    """Print the quality of one or several variants of pairs as tables.

    cosine: of query and retrieved frames; coverage: share of the pool retrieved; hubness: skewness of retrievals;
    unit, phone: share of retrieved frames with the query's unit and phone, beside that of random frames of the pool.
    """
    print("\n\n".join(quality_table(path) for path in quality))
