"""Every path below ``results/<run>/``, and the folders of the package: who knows the noun knows the path."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bowerbird.config.messages import nearest
from bowerbird.config.shard_names import distances_path, index_path, shard_name
from bowerbird.config.study import Config
from bowerbird.errors import BowerbirdError

ASSETS = Path(__file__).parents[1] / "assets"


class Paths:
    """Paths of one run: ``Paths("results/demo").features("nano", 3)`` is the fourth shard of the features `nano`.

    A number or a name may also be a wildcard of the workflow (``"{shard}"``).
    """

    def __init__(self, root: str | Path, num_shards: int = 1) -> None:
        self.root, self.num_shards = Path(root), num_shards

    @classmethod
    def of(cls, config: Config) -> Paths:
        """The paths of a study."""
        return cls(Path(config.results) / config.run, config.corpus.num_shards)

    @property
    def config(self) -> Path:
        """The resolved configuration of the run."""
        return self.root / "config.yaml"

    @property
    def manifest(self) -> Path:
        """One row per utterance."""
        return self.root / "corpus" / "manifest.parquet"

    @property
    def rejected(self) -> Path:
        """One row per file that was set aside."""
        return self.root / "corpus" / "rejected.parquet"

    @property
    def trials(self) -> Path:
        """One row per conversion that every experiment makes."""
        return self.root / "corpus" / "trials.parquet"

    def audio(self, number: int | str) -> Path:
        """Samples of one shard."""
        return self.root / "corpus" / "audio" / shard_name(number)

    def features(self, name: str, number: int | str) -> Path:
        """Features of one shard."""
        return self.root / "features" / name / shard_name(number)

    @staticmethod
    def index(array: Path) -> Path:
        """The table that indexes an array: of ``shard-0003.npy``, ``shard-0003.parquet``."""
        return index_path(array)

    def codebook(self, name: str) -> Path:
        """Centroids of a codebook; its tables lie beside them."""
        return self.root / "codebook" / name / "centroids.safetensors"

    def codebook_table(self, name: str, table: Literal["sample", "summary", "residual", "pca"]) -> Path:
        """A table beside the centroids: frames of the fit, use of the codes, probes of the residual, its two main axes."""
        return self.root / "codebook" / name / f"{table}.parquet"

    def residual_tables(self, name: str) -> dict[str, Path]:
        """The tables of a codebook's residual: probes of it, and places in its two main directions."""
        return {"probes": self.codebook_table(name, "residual"), "places": self.codebook_table(name, "pca")}

    def units(self, name: str, number: int | str) -> Path:
        """Codes of the frames of one shard."""
        return self.root / "codebook" / name / "units" / shard_name(number)

    def pairs(self, name: str, number: int | str) -> Path:
        """Neighbors of the frames of one shard."""
        return self.root / "pairs" / name / shard_name(number)

    def distances(self, name: str, number: int | str) -> Path:
        """Cosine distances of those neighbors."""
        return distances_path(self.pairs(name, number))

    def pairs_quality(self, name: str) -> Path:
        """Quality of a variant of pairs."""
        return self.root / "pairs" / name / "quality.parquet"

    def model(self, experiment: str, stage: str) -> Path:
        """Folder of a trained model."""
        return self.root / "training" / experiment / stage

    def conversion(self, experiment: str) -> Path:
        """Table of an experiment's conversions; the FLACs lie beside it."""
        return self.root / "conversion" / experiment / "trials.parquet"

    def scores(self, experiment: str, family: str) -> Path:
        """Scores of one family of metrics."""
        return self.root / "evaluation" / experiment / f"{family}.parquet"

    def evaluation_table(self, table: Literal["transcripts", "summary", "differences", "cells"]) -> Path:
        """A table of all experiments: transcripts of the sources, means, paired differences, means over parts of the trials."""
        return self.root / "evaluation" / f"{table}.parquet"

    @property
    def report(self) -> Path:
        """The page."""
        return self.root / "report" / "index.html"

    def log(self, stage: str, name: str) -> Path:
        """Log of a job."""
        return self.root / "logs" / stage / f"{name}.log"

    def benchmark(self, stage: str, name: str) -> Path:
        """What the workflow measured of a job."""
        return self.root / "benchmarks" / stage / f"{name}.tsv"

    def all_shards(self, what: str, *names: str) -> tuple[Path, ...]:
        """All shards of one artifact: ``all_shards("features", "nano")``."""
        return tuple(getattr(self, what)(*names, number) for number in range(self.num_shards))

    def variant(self, section: str, name: str) -> tuple[Path, ...]:
        """All files of a variant of a section: the shards of audio, features, units or pairs; the centroids of a codebook."""
        if section == "codebook":
            return (self.codebook(name),)
        return self.all_shards(section, *([name] if name else []))


def bundled(spec: str) -> str:
    """Resolve ``bundled:NAME`` to its folder inside the package; anything else is returned unchanged."""
    if not spec.startswith("bundled:"):
        return spec
    folder = ASSETS / spec.removeprefix("bundled:")
    if not folder.exists():
        known = sorted(p.name for p in ASSETS.iterdir() if p.is_dir())
        raise BowerbirdError(f"{spec}: nothing bundled under that name{nearest(folder.name, known)}")
    return str(folder)
