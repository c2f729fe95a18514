"""Record the version and the syntax-tree hash of every stage: run after deciding whether VERSION must go up."""

from __future__ import annotations

import json
from pathlib import Path

from bowerbird.versions import STAGE_MODULES, stage_version, syntax_hash

if __name__ == "__main__":
    record = {s: {"version": stage_version(s), "code": syntax_hash(s)} for s in sorted(STAGE_MODULES)}
    Path(__file__).with_name("stage_versions.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
