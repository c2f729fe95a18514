"""Record the version of every stage and the hash of the code that it guards: run after deciding whether VERSION must go up."""

from __future__ import annotations

import json
from pathlib import Path

from bowerbird.artifacts.identity import stable_hash
from bowerbird.artifacts.versions import code_hashes, stage_version
from bowerbird.stages import STAGES

RECORD = Path(__file__).parents[1] / "contract" / "stage_versions.json"


def current_record() -> dict[str, dict[str, object]]:
    """Versions and hashes as they are now: of each stage, and of each file."""
    codes = {stage: code_hashes(stage) for stage in STAGES}
    stages = {stage: {"version": stage_version(stage), "code": stable_hash(code)} for stage, code in codes.items()}
    return {
        "stages": stages,
        "files": dict(sorted({path: h for code in codes.values() for path, h in code.items()}.items())),
    }


if __name__ == "__main__":
    RECORD.write_text(json.dumps(current_record(), indent=2) + "\n", encoding="utf-8")
