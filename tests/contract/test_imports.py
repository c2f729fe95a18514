"""The tree's import directions: stages -> systems, metrics, encoders -> nn -> foundations, never back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "bowerbird"
STAGES = {"corpus", "features", "codebook", "pairs", "training", "conversion", "evaluation", "report"}
LAYERS = {
    "foundations": {
        "artifacts",
        "tables",
        "audio",
        "config",
        "experiments",
        "stages",
        "references",
        "layout",
        "versions",
        "faults",
        "store",
        "pins",
    },
    "nn": {"nn"},
    "models": {"systems", "metrics", "encoders"},
    "stages": STAGES,
    "face": {"cli", "study", "audit", "__main__"},
}
ORDER = ["foundations", "nn", "models", "stages", "face"]


def units() -> list[tuple[str, Path]]:
    return [(p.relative_to(PACKAGE).with_suffix("").parts[0], p) for p in sorted(PACKAGE.rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """First part below ``bowerbird`` of everything a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "bowerbird" and len(parts) > 1:
                found.add(parts[1])
            elif parts[0] == "snakemake":
                found.add("snakemake")
    return found


def layer_of(unit: str) -> int:
    for number, name in enumerate(ORDER):
        if unit in LAYERS[name]:
            return number
    raise AssertionError(f"src/bowerbird/{unit}: belongs to no layer; name it in LAYERS and say why")


@pytest.mark.parametrize(
    ("unit", "path"), [pytest.param(u, p, id=str(p.relative_to(PACKAGE))) for u, p in units() if u != "__init__"]
)
def test_import_directions(unit: str, path: Path) -> None:
    for other in imported(path):
        assert other != "snakemake", f"{path.name} imports the workflow engine"
        if other == unit or not ((PACKAGE / other).exists() or (PACKAGE / f"{other}.py").exists()):
            continue  # its own package, or a name defined in bowerbird/__init__.py
        assert layer_of(other) <= layer_of(unit), f"{path.relative_to(PACKAGE)} imports {other}: against the direction"
        assert not ({unit, other} <= STAGES), f"stage {unit} imports stage {other}: stages talk through files"


def test_the_config_imports_no_heavy_library() -> None:
    """The workflow parses the study at every start: torch, transformers, faiss and pandas must not come with it."""
    import subprocess
    import sys

    code = (
        "import sys, bowerbird.config, bowerbird.cli, bowerbird.layout, bowerbird.versions;"
        "print(*[m for m in ('torch','transformers','faiss','pandas','pyarrow','matplotlib') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
