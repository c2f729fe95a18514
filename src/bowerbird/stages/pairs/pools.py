"""What is searched of a donor: whole utterances, as the options restrict them.

Letter: ``P`` frames of a pool.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bowerbird.audio import FRAMES_PER_SECOND
from bowerbird.config.sections.pairs import PairsConfig
from bowerbird.stages.pairs.speech import Clip, hash_number


def session_clips(clips: Sequence[Clip], session: str = "", without: str = "") -> list[Clip]:
    """The clips of one session ("": of all), without the utterance ``without``, in order of their rows."""
    kept = [clip for clip in clips if (not session or clip.session == session) and clip.utt_id != without]
    return sorted(kept, key=lambda clip: clip.start)


def pool_clips(clips: Sequence[Clip], options: PairsConfig, session: str = "", without: str = "") -> list[Clip]:
    """The utterances of a donor that are searched, in order of their rows; ``clips`` are all of that speaker.

    ``session`` restricts them to one chapter, ``without`` leaves out one utterance. `max_pool_s` keeps whole utterances in
    seeded order while they fit, and at least one.
    """
    pool = session_clips(clips, session, without)
    if not (options.max_pool_s > 0 and pool):
        return pool
    limit, total = options.max_pool_s * FRAMES_PER_SECOND, 0
    kept: list[Clip] = []
    for clip in sorted(pool, key=lambda clip: (hash_number(options.seed, "pool", clip.utt_id), clip.utt_id)):
        if kept and total + clip.frames > limit:
            break
        kept.append(clip)
        total += clip.frames
    return sorted(kept, key=lambda clip: clip.start)


def pool_sessions(clips: Sequence[Clip], options: PairsConfig, without: str = "") -> list[str]:
    """Sessions (just "" with ``pool: speaker``) in which a speaker has enough speech to be a donor."""
    sessions = sorted({clip.session for clip in clips}) if options.pool == "chapter" else [""]
    enough = []
    for session in sessions:
        speech = sum(clip.frames for clip in session_clips(clips, session, without))
        pool = sum(clip.frames for clip in pool_clips(clips, options, session, without))
        if speech >= options.min_pool_s * FRAMES_PER_SECOND and pool >= options.k:
            enough.append(session)
    return enough


class DonorPool:
    """The frames of one donor that are prepared once for all its targets, and what of them each target may use.

    With `same_speaker` a target leaves itself out before `max_pool_s` applies, so all speech of the session is prepared and
    each target uses a part of it. Otherwise every target uses the whole pool.
    """

    def __init__(self, clips: Sequence[Clip], options: PairsConfig, session: str = "") -> None:
        self.options, self.session, self._speaker_clips = options, session, clips
        self.clips = session_clips(clips, session) if options.same_speaker else pool_clips(clips, options, session)
        self.rows = np.concatenate([np.arange(clip.start, clip.start + clip.frames) for clip in self.clips])

    @property
    def file(self) -> int:
        """Number of the shard that the donor lies in; ``rows (P,)`` int64 are rows of it."""
        return self.clips[0].file

    def allowed_for(self, target: Clip) -> np.ndarray | None:
        """Which rows of the pool ``target`` may use, bool ``(P,)``; None stands for all."""
        if not self.options.same_speaker:
            return None
        kept = {clip.utt_id for clip in pool_clips(self._speaker_clips, self.options, self.session, target.utt_id)}
        return np.concatenate([np.full(clip.frames, clip.utt_id in kept) for clip in self.clips])


def skewness(counts: np.ndarray) -> float:
    """Third standardized moment of ``counts (P,)``, 0 for constant counts.

    Of N_k, how often each frame is among the k nearest of another, it is the hubness (Radovanović et al. 2010).
    """
    centered = counts - counts.mean()
    variance = np.square(centered).mean()
    return float((centered**3).mean() / variance**1.5) if variance > 0 else 0.0
