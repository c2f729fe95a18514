"""Write the overlay with which a study of this recipe starts from what was made before it.

    python workflow/nano/write_overlay.py vocoder --encoder assets/nano-encoder --phones phones --output vocoder.yaml
    python workflow/nano/write_overlay.py world --output world.yaml
    python workflow/nano/write_overlay.py systems --encoder assets/nano-encoder --phones phones --vocoder assets/nano-vocoder \\
        --output systems.yaml

The presets `nano` and `nano-systems` say how the models are trained; they name bundled models. The overlay puts the new encoder and
phone head in their place, and lets every stage start from random weights, QR-VC from the new vocoder. With ``--quick`` each stage
takes two steps: enough to see that the recipe runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

Overlay = dict[str, Any]
QUICK = {"steps": 2, "batch_size": 2, "valid_every": 2}


def shared_features(encoder: Path, phones: Path) -> Overlay:
    """The features of both studies, by the folders of the new encoder and phone head."""
    return {
        "nano": {"encoder": str(encoder.resolve())},
        "phones": {"kind": "phonetic", "encoder": str(phones.resolve())},
    }


def vocoder_experiments(stage: Overlay) -> Overlay:
    """The experiments of the study `nano`; ``stage`` holds the options of every stage."""
    return {"vocoder": {"vocoder": {"start_from": "", **stage}}}


def system_experiments(stage: Overlay, vocoder: Path) -> Overlay:
    """The experiments of the study `nano-systems`; ``stage`` holds the options of every stage."""
    anew, from_vocoder = {"start_from": "", **stage}, {"start_from": str(vocoder.resolve()), **stage}
    return {
        # the bundled vocoder that it names is not used: the speaker loss is off
        "palindromic": {"converter": anew},
        "palindromic-random-pairs": {"converter": anew},
        "qrvc": {"resynthesis": from_vocoder},
        "qrvc-plain": {"resynthesis": from_vocoder},
        "stepback": {"preparation": anew},
        "takin": {"content": anew, "flow": anew},
        "takin-no-speaker-embedding": {"flow": anew},
    }


def world_experiments(stage: Overlay) -> Overlay:
    """The experiments of the study `nano-world`; ``stage`` holds the options of every stage."""
    return {"world-mel": {"vocoder": stage}}


class Plain(yaml.SafeDumper):
    """YAML without anchors, for people who read it."""

    def ignore_aliases(self, data: object) -> bool:
        """Every value is written out, however often it occurs."""
        return True


def main() -> None:
    """Write the overlay as YAML."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["vocoder", "world", "systems"])
    parser.add_argument("--encoder", type=Path, help="folder of the new nano-encoder; not for the study of WORLD")
    parser.add_argument("--phones", type=Path, help="folder of a phone head that reads it; not for the study of WORLD")
    parser.add_argument("--vocoder", type=Path, help="folder of the new nano-vocoder, for the study of the systems")
    parser.add_argument("--quick", action="store_true", help="two steps per stage")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    stage = QUICK if options.quick else {}
    overlay: Overlay = {}
    if options.study != "world":
        if options.encoder is None or options.phones is None:
            parser.error("--encoder and --phones: both are needed for this study")
        overlay["features"] = shared_features(options.encoder, options.phones)
    if options.study == "world":
        overlay["experiments"] = world_experiments(stage)
    elif options.study == "vocoder":
        overlay["experiments"] = vocoder_experiments(stage)
    elif options.vocoder is None:
        parser.error("--vocoder: missing; the systems start from it")
    else:
        overlay["experiments"] = system_experiments(stage, options.vocoder)
        if options.quick:  # few of the voices are for validation, and those have little speech
            overlay["pairs"] = {name: {"min_pool_s": 1} for name in ("knn4", "random")}
    options.output.write_text(yaml.dump(overlay, Dumper=Plain, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
