"""The plan of the pairs: the donor of each target utterance, the donor's session, the prompt of the target speaker.

Every choice is drawn from a hash of the seed and the utterance's id, so it depends neither on the shard that a speaker is in
nor on the order of jobs.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.errors import BowerbirdError
from bowerbird.stages.pairs.pools import pool_sessions
from bowerbird.stages.pairs.speech import Clip, PairableSpeech, draw_distinct, hash_number

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """One target utterance with one donor. ``session`` names the donor's chapter, "" for all of the donor's speech."""

    target: Clip
    variant: int
    donor: str
    session: str
    prompt: str


@dataclass
class PairPlan:
    """The pairs of one shard in order of their target utterances, and how many were left out or came short."""

    pairs: list[Pair] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def plan_pairs(speech: PairableSpeech, shard: int, options: PairsConfig) -> PairPlan:
    """Donors and prompts for the train and valid utterances of one shard.

    Raises `BowerbirdError`, which names the option, where an utterance has no donor at all.
    """
    plan = PairPlan(counts=Counter(dict.fromkeys(("targets", "without_own_pool", "short_of_donors"), 0)))
    targets = [clip for clips in speech.by_speaker.values() for clip in clips if clip.file == shard]
    donors = None if options.same_speaker else _EligibleDonors(speech, options)
    for target in sorted(targets, key=lambda clip: clip.start):
        own = speech.by_speaker[target.speaker]
        prompt = _prompt(target, own, options.seed)
        plan.counts["targets"] += 1
        chosen = _own_session(target, own, options) if donors is None else donors.draw(target)
        if donors is None and not chosen:
            plan.counts["without_own_pool"] += 1
        if donors is not None and len(chosen) < options.donors_per_utterance:
            plan.counts["short_of_donors"] += 1
        plan.pairs += [Pair(target, variant, donor, session, prompt) for variant, (donor, session) in enumerate(chosen)]
    _log_shortages(plan, shard, options)
    return plan


def _log_shortages(plan: PairPlan, shard: int, options: PairsConfig) -> None:
    """Warn of utterances that are left out, or that have fewer donors than asked for."""
    total = plan.counts["targets"]
    if alone := plan.counts["without_own_pool"]:
        logger.warning(
            "shard %d: %d of %d utterances have no other speech of their speaker (at least min_pool_s = %g s) "
            "and are left out",
            shard,
            alone,
            total,
            options.min_pool_s,
        )
    if short := plan.counts["short_of_donors"]:
        logger.warning(
            "shard %d: %d of %d utterances have fewer than donors_per_utterance = %d eligible donors and take those",
            shard,
            short,
            total,
            options.donors_per_utterance,
        )


def _prompt(target: Clip, own: Sequence[Clip], seed: int) -> str:
    """Another utterance of the target speaker, or the target itself if it is the only one."""
    others = [clip.utt_id for clip in own if clip.utt_id != target.utt_id]
    return others[hash_number(seed, "prompt", target.utt_id) % len(others)] if others else target.utt_id


def _own_session(target: Clip, own: Sequence[Clip], options: PairsConfig) -> list[tuple[str, str]]:
    """Prematching: the donor is the target speaker, without the utterance itself; [] if too little speech is left."""
    sessions = pool_sessions(own, options, without=target.utt_id)
    if not sessions:
        return []
    place = hash_number(options.seed, "session", target.utt_id, target.speaker) % len(sessions)
    return [(target.speaker, sessions[place])]


class _EligibleDonors:
    """The speakers that may be donors, by split, gender and language of the target."""

    def __init__(self, speech: PairableSpeech, options: PairsConfig) -> None:
        self.options = options
        self.sessions = {name: pool_sessions(clips, options) for name, clips in sorted(speech.by_speaker.items())}
        self.first = {name: clips[0] for name, clips in speech.by_speaker.items()}
        self._eligible: dict[tuple[str, str, str], list[str]] = {}

    def draw(self, target: Clip) -> list[tuple[str, str]]:
        """(donor, session) of each donor drawn for ``target``: `donors_per_utterance`, or as many as there are."""
        eligible = self.eligible(target)
        own = bisect_left(eligible, target.speaker)  # skipped when drawing, without copying the list for each utterance
        listed = eligible[own : own + 1] == [target.speaker]
        total = len(eligible) - listed
        if total == 0:
            raise BowerbirdError(self._explain_nobody(target))
        numbers = draw_distinct(total, self.options.donors_per_utterance, self.options.seed, "donor", target.utt_id)
        donors = [eligible[number + (listed and number >= own)] for number in numbers]
        return [(donor, self._session(target, donor)) for donor in donors]

    def eligible(self, target: Clip) -> list[str]:
        """Speakers of the target's split with enough speech and the gender and language asked for, its own included."""
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
        return sessions[hash_number(self.options.seed, "session", target.utt_id, donor) % len(sessions)]

    def _explain_nobody(self, target: Clip) -> str:
        """The error of a target without donors: it names the option that leaves none."""
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
