"""The tables of a run, as the page needs them. What is not on disk is an empty table, or left out of a list."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bowerbird.artifacts.tables import read_identity, read_table
from bowerbird.config.graph import Graph
from bowerbird.config.paths import Paths
from bowerbird.config.study import Config
from bowerbird.stages.report.costs import read_records

SPLITS = ("train", "valid", "test")  # in this order; any other split follows


@dataclass(frozen=True)
class DescribedTable:
    """The table of a variant, with the record embedded in it and the statistics that the record holds."""

    name: str
    table: pd.DataFrame
    stats: dict[str, Any]
    record: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run on disk: its configuration, and its tables by the paths that the graph gives."""

    graph: Graph

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return self.graph.config

    @property
    def paths(self) -> Paths:
        """Where everything lies."""
        return self.graph.paths

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.config.run

    @staticmethod
    def table(path: Path) -> pd.DataFrame:
        """A table; one without rows and columns if it is not there."""
        return read_table(path) if path.exists() else pd.DataFrame()

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """One row per utterance."""
        return self.table(self.paths.manifest)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial."""
        return self.table(self.paths.trials)

    @cached_property
    def speech_s(self) -> float:
        """Seconds of speech in the corpus."""
        return float(self.manifest["duration_s"].sum()) if len(self.manifest) else 0.0

    @property
    def splits(self) -> list[dict[str, Any]]:
        """Speakers, utterances, seconds and median seconds of an utterance: of each split, and of all."""
        if self.manifest.empty:
            return []
        rank = {name: number for number, name in enumerate(SPLITS)}
        parts = {str(name): part for name, part in self.manifest.groupby("split")}
        names = sorted(parts, key=lambda name: (rank.get(name, len(rank)), name))
        return [
            {
                "split": name,
                "speakers": part["speaker"].nunique(),
                "utterances": len(part),
                "seconds": float(part["duration_s"].sum()),
                "median_s": statistics.median(part["duration_s"]),
            }
            for name, part in [*((name, parts[name]) for name in names), ("all", self.manifest)]
        ]

    @property
    def rejected(self) -> list[tuple[str, int]]:
        """(reason, number of utterances set aside for it), the most frequent first."""
        table = self.table(self.paths.rejected)
        counts = Counter(table["reason"]) if len(table) else Counter()
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    @property
    def trial_list(self) -> dict[str, Any]:
        """Hash and leak report of the list of trials; {} where there is none."""
        return read_identity(self.paths.trials) if self.paths.trials.exists() else {}

    @cached_property
    def codebooks(self) -> list[DescribedTable]:
        """Use of the codes of each codebook."""
        return self._described({name: self.paths.codebook_table(name, "summary") for name in self.config.codebook})

    @cached_property
    def residuals(self) -> dict[str, DescribedTable]:
        """What linear probes recognize in the residual, by codebook."""
        names = self.graph.probed_codebooks()
        tables = self._described({name: self.paths.codebook_table(name, "residual") for name in names})
        return {found.name: found for found in tables}

    def residual_points(self, codebook: str) -> pd.DataFrame:
        """Frames and seconds of speech in two principal components of the residual."""
        return self.table(self.paths.codebook_table(codebook, "pca"))

    @cached_property
    def pairs(self) -> list[DescribedTable]:
        """Quality of each variant of pairs."""
        return self._described({name: self.paths.pairs_quality(name) for name in self.config.pairs})

    @staticmethod
    def _described(paths: dict[str, Path]) -> list[DescribedTable]:
        found = []
        for name, path in paths.items():
            if path.exists():
                record = read_identity(path)
                found.append(DescribedTable(name, read_table(path), record.get("facts", {}), record))
        return found

    @cached_property
    def curves(self) -> dict[str, pd.DataFrame]:
        """Metrics per logged step of every trained stage, by ``experiment / stage``."""
        found = {}
        for name, stage in self.graph.trained_stages():
            path = self.graph.train_stage(name, stage).outputs["metrics"]
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            rows = [json.loads(line) for line in lines if line.strip()]
            if rows:
                found[f"{name} / {stage}"] = pd.DataFrame(rows)
        return found

    @cached_property
    def records(self) -> dict[Path, dict[str, Any]]:
        """Run records, by the artifact that each lies beside; those of reports are left out."""
        page = self.paths.report
        return {path: record for path, record in read_records(self.graph).items() if path != page}
