"""Which judge scores a family of metrics, and on which options it depends."""

from __future__ import annotations

from typing import Any

from bowerbird.evaluation.sounds import ProsodyJudge, QualityJudge
from bowerbird.evaluation.voices import SpeakerJudge
from bowerbird.evaluation.words import IntelligibilityJudge

# family -> (judge, the options it depends on)
FAMILIES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "intelligibility": (IntelligibilityJudge, ("asr", "asr_revision", "normalizer", "closed_set")),
    "speaker": (SpeakerJudge, ("verifier", "second_verifier")),
    "prosody": (ProsodyJudge, ()),
    "quality": (QualityJudge, ("quality_trials", "opinions")),
}
