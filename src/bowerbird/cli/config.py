"""The configuration's own commands: show, check, schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bowerbird.artifacts.files import write_text
from bowerbird.config.loading import dump_config, json_schema, load_config
from bowerbird.config.revisions import check_pins

_DEFAULT = [Path("config.yaml")]


def show_config(files: list[Path] = _DEFAULT) -> None:
    """Print the study that ``files`` (later ones override) resolve to, every default included."""
    print(dump_config(load_config(files)), end="")


def check_config(files: list[Path] = _DEFAULT, strict: bool = False) -> None:
    """Check names, types, ranges and references of the merged ``files``; one line a mistake.

    ``strict``: models of a hub without a pinned commit are an error, not a warning (as with ``strict: true`` in a file).
    """
    config = load_config(files, {"strict": True} if strict else None)
    for line in check_pins(config):
        print(f"warning: {line}", file=sys.stderr)
    trained = sum(stage not in e.reuse for e in config.experiments.values() for stage in e.stages)
    print(
        f"run {config.run!r}: {len(config.features)} features, {len(config.codebook)} codebooks, "
        f"{len(config.pairs)} pairs, "
        f"{len(config.experiments)} experiments with {trained} training stages. No mistakes found."
    )


def write_schema(output: Path | None = None) -> None:
    """Print the JSON schema of the configuration, or write it to ``output``."""
    text = json.dumps(json_schema(), indent=2) + "\n"
    if output is None:
        print(text, end="")
    else:
        write_text(output, text)
