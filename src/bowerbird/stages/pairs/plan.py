"""Who is paired with whom: the donor of each target utterance, the donor's pool, the prompt of the target speaker.

Every choice is drawn from a hash of the seed and the utterance's id, so it depends neither on the shard a speaker is
in nor on the order of jobs.
"""

from __future__ import annotations

import hashlib
import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bowerbird.artifacts.identity import canonical_json
from bowerbird.artifacts.shards import Shards, shard_numbers
from bowerbird.artifacts.tables import read_table
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.errors import BowerbirdError

logger = logging.getLogger(__name__)


FRAMES_PER_SECOND = 50


SPLITS = ("train", "valid")


@dataclass(frozen=True)
class Clip:
    """One utterance's frames: rows ``start`` to ``start + frames`` of feature shard number ``file``."""

    utt_id: str
    speaker: str
    gender: str
    language: str
    session: str
    split: str
    file: int
    start: int
    frames: int


@dataclass(frozen=True)
class Pair:
    """One target utterance with one donor. ``session`` names the donor's chapter, "" for all of the donor's speech."""

    target: Clip
    variant: int
    donor: str
    session: str
    prompt: str


class Speech:
    """The train and valid utterances that have features, by speaker, and their memory-mapped frames."""

    def __init__(self, manifest: Path, features: Sequence[Path]) -> None:
        self.shards = Shards(features)
        self.position = {number: place for place, number in enumerate(shard_numbers(self.shards.paths))}
        numbers = {place: number for number, place in self.position.items()}
        columns = ["utt_id", "speaker", "gender", "language", "session", "split"]
        listed = read_table(manifest, columns).fillna("")
        found = self.shards.index[["utt_id", "file", "start", "frames"]]
        table = listed.merge(found, on="utt_id", how="left", validate="one_to_one").sort_values("utt_id")
        lost = table[table["file"].isna() & table["split"].isin(SPLITS)]
        if len(lost):
            raise BowerbirdError(
                f"features: {lost['utt_id'].iloc[0]}: in the manifest but not in the feature shards "
                f"given ({len(lost)} such); give all shards, or extract them again"
            )
        self.by_speaker: dict[str, list[Clip]] = {}
        kept = table[table["split"].isin(SPLITS) & (table["frames"] > 0)]
        for values in kept.itertuples(index=False):
            utt_id, speaker, gender, language, session, split, place, start, frames = values
            clip = Clip(utt_id, speaker, gender, language, session, split, numbers[int(place)], int(start), int(frames))
            self.by_speaker.setdefault(speaker, []).append(clip)
        for speaker, clips in self.by_speaker.items():
            if len({(clip.file, clip.split) for clip in clips}) > 1:
                raise BowerbirdError(
                    f"{manifest}: speaker {speaker!r} lies in several shards or splits; "
                    "a speaker must lie whole in one of each: list the corpus again"
                )

    def rows(self, clip: Clip) -> np.ndarray:
        """Features of a clip, ``(frames, dim)``, a view of the memory map."""
        return self.shards.arrays[self.position[clip.file]][clip.start : clip.start + clip.frames]


def hashed(*key: object) -> int:
    """64 bits that depend on ``key`` alone: the same on every machine and with every library version."""
    return int.from_bytes(hashlib.sha256(canonical_json(list(key)).encode()).digest()[:8], "little")


def choose(total: int, count: int, *key: object) -> list[int]:
    """``count`` distinct numbers below ``total``: the head of a Fisher-Yates shuffle drawn from ``key``."""
    moved: dict[int, int] = {}
    chosen = []
    for place in range(min(count, total)):
        other = place + hashed(*key, place) % (total - place)
        chosen.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return chosen


def pool_clips(clips: Sequence[Clip], options: PairsConfig, session: str = "", without: str = "") -> list[Clip]:
    """The donor's utterances that are searched, in order of their rows.

    ``clips`` are all of one speaker; ``session`` restricts them to one chapter, ``without`` leaves out one utterance.
    ``max_pool_s`` keeps whole utterances in seeded order while they fit, and at least one.
    """
    pool = [clip for clip in clips if (not session or clip.session == session) and clip.utt_id != without]
    if options.max_pool_s > 0 and pool:
        limit, total = options.max_pool_s * FRAMES_PER_SECOND, 0
        kept: list[Clip] = []
        for clip in sorted(pool, key=lambda clip: (hashed(options.seed, "pool", clip.utt_id), clip.utt_id)):
            if kept and total + clip.frames > limit:
                break
            kept.append(clip)
            total += clip.frames
        pool = kept
    return sorted(pool, key=lambda clip: clip.start)


def pool_sessions(clips: Sequence[Clip], options: PairsConfig, without: str = "") -> list[str]:
    """Sessions (just "" with ``pool: speaker``) in which a speaker has enough speech to be a donor."""
    sessions = sorted({clip.session for clip in clips}) if options.pool == "chapter" else [""]
    enough = []
    for session in sessions:
        speech = sum(c.frames for c in clips if (not session or c.session == session) and c.utt_id != without)
        pool = sum(clip.frames for clip in pool_clips(clips, options, session, without))
        if speech >= options.min_pool_s * FRAMES_PER_SECOND and pool >= options.k:
            enough.append(session)
    return enough


@dataclass
class Plan:
    """The pairs of one shard in order of their target utterance, and what was left out."""

    pairs: list[Pair] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def plan_pairs(speech: Speech, shard: int, options: PairsConfig) -> Plan:
    """Choose donors and prompts for the train and valid utterances of one shard."""
    plan = Plan(counts=Counter(dict.fromkeys(("targets", "without_own_pool", "short_of_donors"), 0)))
    targets = [clip for clips in speech.by_speaker.values() for clip in clips if clip.file == shard]
    donors = None if options.same_speaker else _Donors(speech, options)
    for target in sorted(targets, key=lambda clip: clip.start):
        own = speech.by_speaker[target.speaker]
        prompt = _prompt(target, own, options.seed)
        plan.counts["targets"] += 1
        chosen = _own_pool(target, own, options) if donors is None else donors.of(target)
        if donors is None and not chosen:
            plan.counts["without_own_pool"] += 1
        if donors is not None and len(chosen) < options.donors_per_utterance:
            plan.counts["short_of_donors"] += 1
        plan.pairs += [Pair(target, variant, donor, session, prompt) for variant, (donor, session) in enumerate(chosen)]
    if plan.counts["without_own_pool"]:
        logger.warning(
            "shard %d: %d of %d utterances have no other speech of their speaker (at least min_pool_s = %g s) "
            "and are left out",
            shard,
            plan.counts["without_own_pool"],
            plan.counts["targets"],
            options.min_pool_s,
        )
    if plan.counts["short_of_donors"]:
        logger.warning(
            "shard %d: %d of %d utterances have fewer than donors_per_utterance = %d eligible donors and take those",
            shard,
            plan.counts["short_of_donors"],
            plan.counts["targets"],
            options.donors_per_utterance,
        )
    return plan


def _prompt(target: Clip, own: Sequence[Clip], seed: int) -> str:
    """Another utterance of the target speaker, or the target itself if it is the only one."""
    others = [clip.utt_id for clip in own if clip.utt_id != target.utt_id]
    return others[hashed(seed, "prompt", target.utt_id) % len(others)] if others else target.utt_id


def _own_pool(target: Clip, own: Sequence[Clip], options: PairsConfig) -> list[tuple[str, str]]:
    """Prematching: the donor is the target speaker, without the utterance itself; [] if too little is left."""
    sessions = pool_sessions(own, options, without=target.utt_id)
    if not sessions:
        return []
    return [(target.speaker, sessions[hashed(options.seed, "session", target.utt_id, target.speaker) % len(sessions)])]


class _Donors:
    """Eligible donors by what the target asks for."""

    def __init__(self, speech: Speech, options: PairsConfig) -> None:
        self.options = options
        self.sessions = {name: pool_sessions(clips, options) for name, clips in sorted(speech.by_speaker.items())}
        self.first = {name: clips[0] for name, clips in speech.by_speaker.items()}
        self._eligible: dict[tuple[str, str, str], list[str]] = {}

    def of(self, target: Clip) -> list[tuple[str, str]]:
        """(donor, session) of each donor of ``target``."""
        eligible = self.eligible(target)
        own = bisect_left(eligible, target.speaker)  # skipped when drawing, without copying the list for each utterance
        listed = eligible[own : own + 1] == [target.speaker]
        total = len(eligible) - listed
        if total == 0:
            raise BowerbirdError(self._nobody(target))
        numbers = choose(total, self.options.donors_per_utterance, self.options.seed, "donor", target.utt_id)
        donors = [eligible[number + (listed and number >= own)] for number in numbers]
        return [(donor, self._session(target, donor)) for donor in donors]

    def eligible(self, target: Clip) -> list[str]:
        """Speakers of the target's split with enough speech and the gender and language asked for, himself included."""
        key = (target.split, target.gender, target.language)
        if key not in self._eligible:
            self._eligible[key] = [
                name
                for name, clip in sorted(self.first.items())
                if self.sessions[name]
                and clip.split == target.split
                and _matches(self.options.donor_gender, target.gender, clip.gender)
                and (
                    self.options.donor_language == "any"
                    or (clip.language == target.language) == (self.options.donor_language == "same")
                )
            ]
        return self._eligible[key]

    def _session(self, target: Clip, donor: str) -> str:
        sessions = self.sessions[donor]
        return sessions[hashed(self.options.seed, "session", target.utt_id, donor) % len(sessions)]

    def _nobody(self, target: Clip) -> str:
        """Name the option that leaves nobody."""
        options = self.options
        others = [name for name, clip in self.first.items() if clip.split == target.split and name != target.speaker]
        asked = f"{target.utt_id} (speaker {target.speaker}, split {target.split})"
        if not others:
            return (
                f"pairs: {asked}: no donor: it is the only speaker of split {target.split}; "
                f"{'raise corpus.valid_speakers' if target.split == 'valid' else 'add speakers'}, "
                "or set same_speaker: true"
            )
        if not any(self.sessions[name] for name in others):
            return (
                f"pairs.min_pool_s: {options.min_pool_s:g}: no donor for {asked}: none of {len(others)} other "
                f"speakers has so much speech (and k = {options.k} frames); lower it"
            )
        if options.donor_gender != "any":
            return (
                f"pairs.donor_gender: {options.donor_gender}: no donor for {asked} of gender "
                f"{target.gender or 'unknown'!r}; use any, or add such speakers to split {target.split}"
            )
        return (
            f"pairs.donor_language: {options.donor_language}: no donor for {asked} of language "
            f"{target.language or 'unknown'!r}; use any, or add such speakers to split {target.split}"
        )


def _matches(wanted: str, target: str, donor: str) -> bool:
    """Whether a donor's gender is what ``donor_gender`` asks for; an unknown gender is neither same nor cross."""
    if wanted == "any":
        return True
    return bool(target and donor) and (target == donor) == (wanted == "same")
