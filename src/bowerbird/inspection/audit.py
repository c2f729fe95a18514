"""``bowerbird audit [STAGE]``: check every artifact of a run against its record, its inputs and the run's configuration.

Prints a table, one line per stage, and a line for each artifact that is not in order; the exit code is 1 if something is
corrupt, missing or stale. ``--fix`` removes what is damaged, so that the next run makes it and what follows from it again,
and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bowerbird.errors import BowerbirdError
from bowerbird.inspection.integrity import Finding, check_run
from bowerbird.inspection.repair import declared, remove_damaged
from bowerbird.stages import STAGES

STATES = ("ok", "corrupt", "missing", "stale", "orphan")
DEFAULT_RUN = Path("results/demo")


def audit_run(root: Path = DEFAULT_RUN, stage: str = "", as_json: bool = False, fix: bool = False) -> int:
    """Check every artifact below a run's folder, or those of one ``stage``, against its record.

    ok: as recorded. corrupt: bytes or values differ from the record. missing: the configuration or a table names it.
    stale: made from other inputs, with other parameters or by another version. orphan: nothing of this run needs it.
    """
    if not root.is_dir():
        raise BowerbirdError(f"{root}: no such run; a run is a folder below results/ (--root)")
    if stage and stage not in STAGES:
        raise BowerbirdError(f"{stage!r}: no stage; the stages are: {', '.join(STAGES)}")
    findings = [f for f in check_run(root) if not stage or f.stage == stage]
    counts = {state: sum(f.state == state for f in findings) for state in STATES}
    if as_json:
        print(json.dumps({"root": str(root), "counts": counts, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        _print_findings(root, findings, counts)
    if fix:
        removed = remove_damaged(root, findings)
        if not as_json:
            _print_removed(root, removed)
    is_sound = all(f.state in ("ok", "orphan") for f in findings)
    return 0 if is_sound and counts["ok"] else 1


def _print_removed(root: Path, removed: Sequence[Path]) -> None:
    for path in removed:
        print(f"removed  {path}")
    targets = " ".join(str(root / path) for path in declared(removed))
    print(f"{root}: {len(removed)} files removed; ask for what was damaged by name (Snakemake does not miss a file")
    print("whose descendants are there), then run the study; what follows is made again if the bytes differ:")
    print(f"  make run PRESET=... ARGS='{targets}'")


def _print_findings(root: Path, findings: Sequence[Finding], counts: dict[str, int]) -> None:
    present = {f.stage for f in findings}
    print(f"{'':12}" + "".join(f"{state:>9}" for state in STATES))
    for stage in [*(stage for stage in STAGES if stage in present), *sorted(present - set(STAGES))]:
        numbers = [sum(f.stage == stage and f.state == state for f in findings) for state in STATES]
        print(f"{stage:12}" + "".join(f"{number or '·':>9}" for number in numbers))
    for finding in findings:
        if finding.state != "ok":
            print(f"{finding.state:8} {finding.path}: {finding.detail}")
    print(f"{root}: " + ", ".join(f"{number} {state}" for state, number in counts.items()))
