"""The stages' own commands, taken from a finished run, to be run one by one in a copy of it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

RULES = (
    "list_corpus",
    "store_audio",
    "list_trials",
    "extract_features",
    "fit_codebook",
    "assign_units",
    "summarize_units",
    "probe_residual",
    "search_pairs",
    "summarize_pairs",
    "train_stage",
    "convert_trials",
    "score_trials",
    "transcribe_sources",
    "summarize_scores",
    "write_report",
)


@dataclass(frozen=True)
class Stage:
    """One command of a finished run, in a copy of that run."""

    root: Path
    environment: dict[str, str]
    words: tuple[str, ...]

    def start(self, *prefix: str, **options) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*prefix, *self.words],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *prefix: str) -> tuple[int, str]:
        process = self.start(*prefix)
        errors = process.communicate(timeout=300)[1]
        return process.returncode, errors

    def option(self, name: str) -> Path:
        return self.root / self.words[self.words.index(name) + 1]

    @property
    def output(self) -> Path:
        return self.option("--manifest" if self.words[1] == "list-corpus" else "--output")

    def with_options(self, **values: str) -> Stage:
        words = list(self.words)
        for name, value in values.items():
            words[words.index(f"--{name.replace('_', '-')}") + 1] = value
        return Stage(self.root, self.environment, tuple(words))

    def written(self) -> dict[str, bytes]:
        """What lies in the output's folder: artifacts, not what tells of a run."""
        told = {"checkpoints", "tensorboard"}
        files = [p for p in sorted(self.output.parent.rglob("*")) if p.is_file() and not told & set(p.parts)]
        return {str(p): p.read_bytes() for p in files if not p.name.endswith(".run.json") and p.name != "index.html"}

    def litter(self) -> list[Path]:
        return sorted(self.output.parent.rglob(".tmp-*"))
