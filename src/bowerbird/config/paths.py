"""The study's configuration: one frozen model a section, the only place where a default stands.

``load_config`` merges files (later ones override, ``null`` removes a key), checks names, types and ranges, and turns
every mistake into one line in the configuration's own words. Fields say their unit; whatever does not change the bytes
of an artifact (threads, devices, batch sizes of extraction) is in ``runtime`` and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from bowerbird.config.messages import nearest
from bowerbird.config.references import TRAINED
from bowerbird.config.sections.features import PHONETIC, FeaturesConfig
from bowerbird.config.study import Config
from bowerbird.errors import BowerbirdError


def bundled(spec: str) -> str:
    """Resolve ``bundled:NAME`` to its folder inside the package; anything else is returned as it is."""
    if not spec.startswith("bundled:"):
        return spec
    assets = Path(__file__).parents[1] / "assets"
    folder = assets / spec.removeprefix("bundled:")
    if not folder.exists():
        known = sorted(p.name for p in assets.iterdir() if p.is_dir())
        raise BowerbirdError(f"{spec}: nothing bundled under that name{nearest(folder.name, known)}")
    return str(folder)


class Layout:
    """Paths of one run: ``Layout("results/demo").features("nano", 3)`` is the fourth shard of the features `nano`."""

    def __init__(self, root: str | Path, num_shards: int = 1) -> None:
        self.root, self.num_shards = Path(root), num_shards

    @classmethod
    def of(cls, config: Config) -> Layout:
        return cls(Path(config.results) / config.run, config.corpus.num_shards)

    @staticmethod
    def shard(number: int | str) -> str:
        return f"shard-{int(number):04d}.npy"

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.root / "corpus" / "manifest.parquet"

    @property
    def rejected(self) -> Path:
        return self.root / "corpus" / "rejected.parquet"

    @property
    def trials(self) -> Path:
        return self.root / "corpus" / "trials.parquet"

    def audio(self, number: int | str) -> Path:
        return self.root / "corpus" / "audio" / self.shard(number)

    def features(self, name: str, number: int | str) -> Path:
        return self.root / "features" / name / self.shard(number)

    def codebook(self, name: str) -> Path:
        return self.root / "codebook" / name / "centroids.safetensors"

    def units(self, name: str, number: int | str) -> Path:
        return self.root / "codebook" / name / "units" / self.shard(number)

    def pairs(self, name: str, number: int | str) -> Path:
        return self.root / "pairs" / name / self.shard(number)

    def model(self, experiment: str, stage: str) -> Path:
        return self.root / "training" / experiment / stage

    def trained_encoder(self, config: Config, options: FeaturesConfig) -> Path | None:
        """The model folder behind `phonetic:trained:EXPERIMENT`; None of any other encoder."""
        if not options.encoder.startswith(TRAINED):
            return None
        name = options.encoder.removeprefix(TRAINED)
        return self.model(config.experiments[name].reuse.get("ppg", name), "ppg")

    def located(self, config: Config, options: FeaturesConfig) -> FeaturesConfig:
        """The same options, with the folder in the place of `trained:EXPERIMENT`."""
        folder = self.trained_encoder(config, options)
        return options.model_copy(update={"encoder": f"{PHONETIC}{folder}"}) if folder else options

    def conversion(self, experiment: str) -> Path:
        return self.root / "conversion" / experiment / "trials.parquet"

    def scores(self, experiment: str, family: str) -> Path:
        return self.root / "evaluation" / experiment / f"{family}.parquet"

    @property
    def summary(self) -> Path:
        return self.root / "evaluation" / "summary.parquet"

    @property
    def report(self) -> Path:
        return self.root / "report" / "index.html"

    def all_shards(self, what: str, *names: str) -> list[Path]:
        """All shards of one artifact: ``all_shards("features", "nano")``."""
        return [getattr(self, what)(*names, number) for number in range(self.num_shards)]
