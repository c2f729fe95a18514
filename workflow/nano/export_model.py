"""Export a trained model as a bundled one: float16 weights, its configuration, and a card with what was measured.

    python workflow/nano/export_model.py results/nano/training/vocoder/vocoder \\
        --output src/bowerbird/assets/nano-vocoder --preset nano --speech "LibriSpeech train-clean-100 (CC BY 4.0)"
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from bowerbird.artifacts.files import atomic_path, write_json, write_text
from bowerbird.audio import FRAMES_PER_SECOND

LIMIT_MB = 15
PURPOSE = {
    "vocoder": "A generator of speech from the features named below.",
    "converter": "The converter of Palindromic VC at nano size, pre-trained on many voices: a study only fine-tunes it.",
    "flow": "Takin-VC's content encoder, timbre modules and flow at nano size, trained on many voices: a study fine-tunes it.",
    "resynthesis": "QR-VC at nano size, pre-trained on many voices: a study only fine-tunes it, with its own codebook.",
    "preparation": "Encoder and decoder of Stepback at nano size, after stage 1: its other stages are a study's own.",
}
SHOWN = {
    "generator": "generator",
    "adversarial_from": "discriminators from step",
    "speaker_weight": "weight of the speaker loss",
    "width": "width of the U-Net",
    "codes": "codes of the content",
    "variation_dim": "channels of speaking variation",
}


def main() -> None:
    """Write the three files of a bundled model, unless it is too large or does not fit into float16."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder that train-stage wrote")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", required=True, help="the study it comes from, for the card")
    parser.add_argument("--speech", required=True, help="what it was trained on, and under which license, for the card")
    parser.add_argument("--before", default="", help="what the model was trained on before this run, for the card")
    options = parser.parse_args()
    config = json.loads((options.model / "config.json").read_text(encoding="utf-8"))
    with safe_open(options.model / "model.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name).half() for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = file.metadata()
    size_mb = sum(tensor.numel() for tensor in weights.values()) * 2 / 1.0e6
    if size_mb > LIMIT_MB:
        parser.error(
            f"{options.model}: {size_mb:.1f} MB in float16, more than the {LIMIT_MB} MB a bundled model may have"
        )
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        parser.error(f"{options.model}: a weight does not fit into float16")
    write_json(options.output / "config.json", config)
    write_text(options.output / "MODEL_CARD.md", card(options, config, weights))
    with atomic_path(options.output / "model.safetensors") as temporary:
        temporary.write_bytes(save(weights, metadata=metadata))
    print(f"{options.output}: {size_mb:.1f} MB, {len(weights)} tensors")


def read_last_validation(model: Path) -> tuple[int, dict[str, float]] | None:
    """Step and metrics of the last validation in a model folder, None where there was none."""
    lines = map(json.loads, (model / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    valid = [line for line in lines if any(key.startswith("valid/") for key in line)]
    if not valid:
        return None
    metrics = {key.removeprefix("valid/"): value for key, value in valid[-1].items() if key.startswith("valid/")}
    return valid[-1]["step"], metrics


def card_rows(options: argparse.Namespace, config: dict[str, Any], parameters: int) -> list[tuple[str, Any]]:
    """The rows of the card's table: every number is read from what training wrote."""
    record = json.loads((options.model / "model.safetensors.run.json").read_text(encoding="utf-8"))
    params, features = config["identity"]["params"], config["features"]
    crop_s = params["segment_frames"] / FRAMES_PER_SECOND
    rows = [
        ("parameters", f"{parameters / 1e6:.2f} M, float16"),
        ("features", f"layer {features.get('layer')}, encoder's weights {str(features.get('weights_sha256'))[:16]}"),
        ("trained on", options.speech),
        ("steps", f"{params['steps']} of {params['batch_size']} crops of {crop_s:.2f} s"),
        *([("went on from", params["start_from"])] if params.get("start_from") else []),
        *([("before", options.before)] if options.before else []),
        ("trained with", f"{record['device']}, {record['dtype']}, commit {record['git_revision']}"),
        # a resumed run knows the seconds of its last part only
        *([("seconds", f"{record['seconds']:.0f}")] if record.get("steps_per_second") else []),
        *((title, params[key]) for key, title in SHOWN.items() if key in params),
    ]
    if last := read_last_validation(options.model):
        step, metrics = last
        rows.append((f"validation at step {step}", ", ".join(f"{name} {value}" for name, value in metrics.items())))
    return rows


def card(options: argparse.Namespace, config: dict[str, Any], weights: dict[str, torch.Tensor]) -> str:
    """The text of the model card."""
    rows = card_rows(options, config, sum(tensor.numel() for tensor in weights.values()))
    params = config["identity"]["params"]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    recipe = json.dumps(params, indent=2, sort_keys=True)
    return f"""# {options.output.name}

{PURPOSE.get(params["stage"], "")} Made for tests, demonstrations and machines without a model hub; it is
no match for a model of full size, and numbers obtained with it say nothing about systems on full-size models.

| | |
| --- | --- |
{table}

Voices made with it are synthetic; the rule of consent in the README holds.

## Recipe

`workflow/presets/{options.preset}.yaml`, then `workflow/nano/export_model.py`. The options of the stage:

```json
{recipe}
```
"""


if __name__ == "__main__":
    main()
