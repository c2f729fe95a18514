"""How good the pairs are: do the retrieved frames say what the query says?

Cosine alone cannot tell (the nearest of anything is near). Agreement can: how often a retrieved frame has the query's
code, or its phone (the likeliest one of a phonetic encoder), against what random frames of the same pool would give,
which is known exactly from the pool's histogram.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bowerbird.artifacts.identity import Identity, RunRecord, inputs_digest
from bowerbird.artifacts.pairs import PairShards
from bowerbird.artifacts.shards import Shards
from bowerbird.artifacts.tables import read_identity, read_table, write_table
from bowerbird.audio import int16_to_float
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.encoders.extractors import PhoneticEncoder
from bowerbird.errors import BowerbirdError
from bowerbird.stages.pairs.plan import FRAMES_PER_SECOND, Clip, Speech, pool_clips

logger = logging.getLogger(__name__)


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
    """Summarize the quality of retrieval, one row a target utterance and donor.

    Columns: cosine_mean, cosine_p10, cosine_p50, cosine_p90 over frames and neighbours; coverage (share of the pool's
    frames that are retrieved at all); hubness (skewness of how often each pool frame is retrieved) and
    most_retrieved; unit_agreement (share of retrieved frames with the query's code), unit_agreement_nearest (of the
    first neighbour) and unit_agreement_random (expected of random frames of the pool); the three are NaN without
    ``units``. phone_agreement, phone_agreement_nearest and phone_agreement_random are the same of phones; NaN without
    ``phonetic``. Its phones are read off the features where they are of its own layer, and off ``audio`` elsewhere.
    """
    from bowerbird.stages.pairs import VERSION

    inputs = {"manifest": inputs_digest([manifest]), "pairs": inputs_digest(pairs), "features": inputs_digest(features)}
    if units:
        inputs["units"] = inputs_digest(units)
    if phonetic and audio:
        inputs["audio"] = inputs_digest(audio)
    identity = Identity("pairs.quality", VERSION, {"phonetic": phonetic}, inputs)
    with RunRecord() as record:
        stored, speech = PairShards(pairs), Speech(manifest, features)
        options = stored_options(pairs[0])
        codes: dict[str, _Rows | None] = {"unit": None, "phone": None}
        if units:
            codes["unit"] = _UnitRows(Shards(units), speech)
        if phonetic:
            codes["phone"] = _PhoneRows(phonetic, features, speech, audio)
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


class _Rows:
    """Codes by feature row: ``codes[file]`` has one code for each row of feature shard number ``file``."""

    def __init__(self, arrays: dict[int, np.ndarray]) -> None:
        self._arrays = arrays
        self.num_codes = 1 + max((int(array.max()) for array in arrays.values() if len(array)), default=0)

    def __getitem__(self, file: int) -> np.ndarray:
        return self._arrays[file]

    def histogram(self, file: int, rows: np.ndarray) -> np.ndarray:
        """How often each code occurs in ``rows`` of a shard, int64 ``(K,)``."""
        return np.bincount(self[file][rows], minlength=self.num_codes)


class _UnitRows(_Rows):
    """The units of a codebook."""

    def __init__(self, units: Shards, speech: Speech) -> None:
        both = speech.shards.index.merge(units.index, on="utt_id", how="left", suffixes=("", "_units"))
        same = (both["start"] == both["start_units"]) & (both["frames"] == both["frames_units"])
        if not same.all() or [len(a) for a in units.arrays] != [len(a) for a in speech.shards.arrays]:
            lost = both.loc[~same, "utt_id"]
            raise BowerbirdError(
                f"units: {lost.iloc[0] if len(lost) else 'shards'}: not the rows of these features; "
                "make the units from the same features"
            )
        super().__init__({number: units.arrays[place] for number, place in speech.position.items()})


class _PhoneRows(_Rows):
    """The likeliest phone of each frame."""

    def __init__(self, phonetic: str, features: list[Path], speech: Speech, audio: list[Path] | None) -> None:
        encoder = PhoneticEncoder(phonetic)
        made = read_identity(features[0].with_suffix(".parquet")).get("params", {})
        own = encoder.extractor.options
        if (made.get("encoder"), made.get("layer")) == (own.encoder, own.layer):
            arrays = {n: _phones_of(encoder, speech.shards.arrays[place]) for n, place in speech.position.items()}
        elif audio:
            arrays = self._heard(encoder, Shards(audio, "num_samples"), speech)
        else:
            raise BowerbirdError(
                f"--phonetic: {phonetic}: reads {own.encoder}, layer {own.layer}, and the features are of "
                f"{made.get('encoder')}, layer {made.get('layer')}: give --audio, so that it can listen"
            )
        super().__init__(arrays)

    @staticmethod
    def _heard(encoder: PhoneticEncoder, audio: Shards, speech: Speech) -> dict[int, np.ndarray]:
        arrays = {n: np.zeros(len(speech.shards.arrays[place]), np.uint8) for n, place in speech.position.items()}
        for own in speech.by_speaker.values():
            for clip in own:
                heard = encoder.posteriors(int16_to_float(np.array(audio[clip.utt_id]))).argmax(dim=-1).numpy()
                count = min(len(heard), clip.frames)
                arrays[clip.file][clip.start : clip.start + count] = heard[:count]
        return arrays


def _phones_of(encoder: PhoneticEncoder, features: np.ndarray, rows: int = 65536) -> np.ndarray:
    pieces = [
        encoder.from_features(torch.from_numpy(features[start : start + rows].astype(np.float32))).argmax(dim=-1)
        for start in range(0, len(features), rows)
    ]
    return torch.cat(pieces).numpy().astype(np.uint8) if pieces else np.zeros(0, np.uint8)


def _measure(
    pairs: PairShards, speech: Speech, options: PairsConfig, codes: dict[str, _Rows | None]
) -> tuple[pd.DataFrame, list[dict[str, float]]]:
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
        histograms = {kind: c.histogram(pool[0].file, pool_rows) for kind, c in codes.items() if c is not None}
        for row in members:
            target = clips[pairs.index["utt_id"].iloc[row]]
            found = pairs.indices(row)
            counts = np.bincount(np.searchsorted(pool_rows, found.ravel()), minlength=len(pool_rows))
            times += counts
            allowed, shares = counts, histograms
            if options.same_speaker:  # the pool of this target is smaller: without itself
                kept = {clip.utt_id for clip in pool_clips(own, options, session, without=target.utt_id)}
                mask = np.concatenate([np.full(clip.frames, clip.utt_id in kept) for clip in pool])
                allowed = counts[mask]
                shares = {k: c.histogram(pool[0].file, pool_rows[mask]) for k, c in codes.items() if c is not None}
            cosine = 1 - np.asarray(pairs.distances(row), dtype=np.float64)
            low, middle, high = np.quantile(cosine, (0.1, 0.5, 0.9))
            rows[row] = {
                "utt_id": target.utt_id,
                "variant": int(pairs.index["variant"].iloc[row]),
                "speaker": target.speaker,
                "donor_speaker": donor,
                "split": target.split,
                "gender": target.gender,
                "donor_gender": own[0].gender,
                "language": target.language,
                "donor_language": own[0].language,
                "frames": target.frames,
                "pool_frames": len(allowed),
                "cosine_mean": cosine.mean(),
                "cosine_p10": low,
                "cosine_p50": middle,
                "cosine_p90": high,
                "coverage": (allowed > 0).mean(),
                "hubness": skewness(allowed),
                "most_retrieved": int(allowed.max()),
            }
            for kind, rows_of in codes.items():
                rows[row] |= _agreement(kind, rows_of, target, pool[0].file, found, shares.get(kind))
        hubs.append({"coverage": (times > 0).mean(), "hubness": skewness(times), "most_retrieved": float(times.max())})
    return pd.DataFrame(rows), hubs


def _agreement(
    kind: str, codes: _Rows | None, target: Clip, donor_file: int, found: np.ndarray, histogram: np.ndarray | None
) -> dict[str, float]:
    if codes is None or histogram is None:
        return dict.fromkeys(AGREEMENTS[kind], float("nan"))
    query = np.asarray(codes[target.file][target.start : target.start + target.frames])
    same = codes[donor_file][found] == query[:, None]
    values = (same.mean(), same[:, 0].mean(), (histogram[query] / histogram.sum()).mean())
    return dict(zip(AGREEMENTS[kind], values, strict=True))


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
    names = ["cosine_mean", *AGREEMENTS["unit"], *AGREEMENTS["phone"]]
    known = [name for name in names if table[name].notna().all()]
    facts |= {name: float(np.average(table[name], weights=table["frames"])) for name in known}
    for name in ("coverage", "hubness", "most_retrieved"):
        facts[f"donor_{name}"] = float(np.mean([hub[name] for hub in hubs]))
    return facts


def quality_table(path: Path) -> str:
    """One quality.parquet as text: by gender and, where there are several, by language of target and donor; and overall."""
    table = read_table(path)
    if not len(table):
        return f"{path}: no pairs"
    record = read_identity(path)
    columns = {
        "cosine_mean": "cosine",
        "coverage": "coverage",
        "hubness": "hubness",
        "unit_agreement": "unit",
        "unit_agreement_random": "by chance",
        "phone_agreement": "phone",
        "phone_agreement_random": "by chance",
    }
    direction = (
        table["gender"].where(table["gender"] != "", "?")
        + " -> "
        + table["donor_gender"].where(table["donor_gender"] != "", "?")
    )
    lines = [
        f"{path}  ({record.get('method', '')}, k = {record.get('k', '')})",
        f"{'target -> donor':<16}{'pairs':>8}{'frames':>10}" + "".join(f"{name:>11}" for name in columns.values()),
    ]
    parts = [(name, part) for name, part in table.groupby(direction, sort=True)]
    if len(set(table["language"]) | set(table["donor_language"])) > 1:
        parts += list(table.groupby(table["language"] + " -> " + table["donor_language"], sort=True))
        within = np.where(table["language"] == table["donor_language"], "within languages", "across languages")
        parts += list(table.groupby(within, sort=True))
    parts.append(("all", table))
    for name, part in parts:
        means = [np.average(part[column], weights=part["frames"]) for column in columns]
        cells = "".join(f"{'-' if np.isnan(mean) else format(mean, '.3f'):>11}" for mean in means)
        lines.append(f"{name:<16}{len(part):>8}{int(part['frames'].sum()):>10}{cells}")
    return "\n".join(lines)


def print_quality(quality: list[Path]) -> None:
    """Print the quality of one or several variants of pairs as tables.

    cosine: of query and retrieved frames; coverage: share of the pool retrieved; hubness: skewness of retrievals;
    unit, phone: share of retrieved frames with the query's unit and phone; by chance: of random frames of the pool.
    """
    print("\n\n".join(quality_table(path) for path in quality))
