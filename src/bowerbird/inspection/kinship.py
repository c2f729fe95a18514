"""Who is made from whom: the parents of each artifact of a run, by role, and what the run's configuration asks of it.

Roles are those of `bowerbird.artifacts.Identity.inputs`. What cannot be known from the configuration alone (models that
lie outside the run) has no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bowerbird.artifacts.identity import inputs_digest
from bowerbird.artifacts.versions import stage_version
from bowerbird.config.loading import load_config
from bowerbird.config.paths import Layout, bundled
from bowerbird.config.study import Config
from bowerbird.errors import BowerbirdError

FAMILIES = ("intelligibility", "speaker", "prosody", "quality")


class Kinship:
    """The run's configuration, read as: which artifacts there must be, made from what, with which parameters."""

    def __init__(self, root: Path, configured: bool = True) -> None:
        self.root = root
        file = root / "config.yaml"
        self.config: Config | None = load_config([file]) if configured and file.is_file() else None
        self.layout = Layout(root, self.config.corpus.num_shards if self.config else 1)

    # ---------------------------------------------------------------------------------------------------- what must be
    def expected(self, with_unused: bool = False) -> set[Path]:
        """Every artifact of the configured study; ``with_unused`` also features that are configured and nobody reads."""
        config, layout = self.config, self.layout
        if config is None:
            return set()
        arrays = [*layout.all_shards("audio")]
        found = [layout.manifest, layout.rejected, layout.trials, layout.summary, layout.report]
        found += [layout.summary.with_name(f"{name}.parquet") for name in ("differences", "cells", "transcripts")]
        readers = [*config.codebook.values(), *config.pairs.values(), *config.experiments.values()]
        roles = ("features", "mels", "phones", "voices")
        read = {getattr(reader, role, "") for reader in readers for role in roles}
        for name in [name for name in config.features if with_unused or name in read]:
            arrays += layout.all_shards("features", name)
        for name in config.codebook:
            book = layout.codebook(name)
            found += [book, book.with_name("sample.parquet"), book.with_name("summary.parquet")]
            arrays += layout.all_shards("units", name)
            if any(e.system == "qrvc" and e.codebook == name for e in config.experiments.values()):
                found += [book.with_name("residual.parquet"), book.with_name("pca.parquet")]
        for name in config.pairs:
            shards = layout.all_shards("pairs", name)
            arrays += shards
            found += [p.with_name(f"{p.stem}.distances.npy") for p in shards]
            found.append(shards[0].with_name("quality.parquet"))
        for name, experiment in config.experiments.items():
            for stage in experiment.stages:
                if stage not in experiment.reuse:
                    folder = layout.model(name, stage)
                    found += [folder / file for file in ("model.safetensors", "config.json", "metrics.jsonl")]
            found.append(layout.conversion(name))
            found += [layout.scores(name, family) for family in self._families()]
        return {*found, *arrays, *(path.with_suffix(".parquet") for path in arrays)}

    def _families(self) -> list[str]:
        evaluation = self.config.evaluation if self.config else None
        asked = {"prosody": evaluation and evaluation.prosody, "quality": evaluation and evaluation.quality}
        return [family for family in FAMILIES if asked.get(family, True)]

    # ------------------------------------------------------------------------------------------------------- parents
    def parents(self, path: Path) -> dict[str, list[Path]]:
        """Files that ``path`` was made from, by role, in the order that their digest was taken in."""
        config, layout = self.config, self.layout
        parts = path.relative_to(self.root).parts
        if config is None or len(parts) < 2:
            return {}
        stage, name = parts[0], parts[1]
        number = path.name.removeprefix("shard-")[:4]
        shard = int(number) if path.name.startswith("shard-") and number.isdigit() else None
        roles: dict[str, list[Path]] = {"manifest": [layout.manifest], "audio": layout.all_shards("audio")}
        if stage == "corpus":
            return {"manifest": [layout.manifest]} if path != layout.manifest and path != layout.rejected else {}
        if stage == "features" and shard is not None:
            return {"audio": [layout.audio(shard)]}
        if stage == "codebook" and name in config.codebook:
            features = config.codebook[name].features
            roles["codebook"], roles["units"] = [layout.codebook(name)], layout.all_shards("units", name)
            everything = layout.all_shards("features", features)
            roles["features"] = [layout.features(features, shard)] if shard is not None else everything
        elif stage == "pairs" and name in config.pairs:
            features = config.pairs[name].features
            beside = [book for book, section in config.codebook.items() if section.features == features]
            roles["features"], roles["pairs"] = (
                layout.all_shards("features", features),
                layout.all_shards("pairs", name),
            )
            if beside:
                roles["units"] = layout.all_shards("units", beside[0])
        elif stage in ("training", "conversion") and name in config.experiments:
            roles |= self._of_experiment(name, with_architecture=stage == "conversion")
        elif stage == "evaluation":
            roles |= {"conversion": [layout.conversion(name)], "trials": [layout.trials]}
            roles["scores"] = [layout.scores(e, f) for e in config.experiments for f in self._families()]
        elif stage == "report":
            from bowerbird.stages.report.page import INPUTS

            return {"run": sorted(p for pattern in INPUTS for p in self.root.glob(pattern))}
        return roles

    def _of_experiment(self, name: str, with_architecture: bool) -> dict[str, list[Path]]:
        assert self.config is not None
        experiment, layout = self.config.experiments[name], self.layout
        roles: dict[str, list[Path]] = {"trials": [layout.trials]}
        if features := getattr(experiment, "features", ""):
            roles["features"] = layout.all_shards("features", features)
        if pairs := getattr(experiment, "pairs", ""):
            roles["pairs"] = layout.all_shards("pairs", pairs)
        if codebook := getattr(experiment, "codebook", ""):
            roles["codebook"] = [layout.codebook(codebook)]
            roles["units"] = layout.all_shards("units", codebook)
        folders = {stage: layout.model(experiment.reuse.get(stage, name), stage) for stage in experiment.stages}
        if isinstance(vocoder := getattr(experiment, "vocoder", None), str):
            owner = self.config.experiments.get(vocoder)
            local = layout.model(owner.reuse.get("vocoder", vocoder) if owner else vocoder, "vocoder")
            folders["vocoder"] = Path(bundled(vocoder)) if vocoder.startswith("bundled:") else local
        names = ("model.safetensors", "config.json") if with_architecture else ("model.safetensors",)
        models = {role: [folder / file for file in names] for role, folder in folders.items()}
        owner = experiment if experiment.system == "vocoder" else self.config.experiments.get(str(vocoder))
        if published := getattr(owner, "published", ""):
            files = [Path(published).expanduser() / file for file in ("config.json", "bigvgan_generator.pt")]
            models["vocoder"] = files if files[1].is_file() else []  # of the hub: not looked for here
        return roles | models

    # --------------------------------------------------------------------------------------------------------- staleness
    def staleness(self, path: Path, identity: Mapping[str, Any]) -> str:
        """Why the artifact is not what the run would make now; "" if it is."""
        if not identity or self.config is None:
            return ""
        now = stage_version(identity["stage"].split(".")[0])
        if identity["version"] != now:
            return f"made by version {identity['version']} of its stage, which is at {now}: run again"
        for key, value in self._parameters(path).items():
            if key in identity["params"] and identity["params"][key] != value:
                return f"{key}: made with {identity['params'][key]!r}, the configuration says {value!r}: run again"
        parents = self.parents(path)
        for role, digest in identity.get("inputs", {}).items():
            files = parents.get(role)
            if not files or (role == "codebook" and path.name == "centroids.safetensors"):
                continue
            try:
                same = inputs_digest(files) == digest
            except OSError as error:
                return f"its parent {error.filename} is not there: run again"
            if not same:
                return f"made from other {role}: {files[0]}{' ...' if len(files) > 1 else ''}: run again"
        return ""

    def _parameters(self, path: Path) -> dict[str, Any]:
        """What the configuration says of the artifact, by the names that its identity uses."""
        assert self.config is not None
        config, parts = self.config, path.relative_to(self.root).parts
        stage, name = parts[0], parts[1] if len(parts) > 1 else ""
        if path in (self.layout.manifest, self.layout.rejected):
            return config.corpus.model_dump(exclude={"path", "audio_root"})
        if path == self.layout.trials:
            return config.trials.model_dump()
        if stage == "corpus":
            return {"trim_silence": config.corpus.trim_silence}
        if stage in ("features", "codebook", "pairs"):
            section = getattr(config, stage).get(name)
            return section.model_dump(exclude={"features", "encoder", "revision"}) if section else {}
        if stage in ("training", "conversion"):
            experiment = config.experiments.get(name)
            if experiment is None:
                return {}
            if stage == "conversion":
                return {
                    **experiment.model_dump(include={"k", "retrieval", "synthesis"}),
                    **config.conversion.model_dump(),
                }
            options = getattr(experiment, parts[2], None) if len(parts) > 2 else None
            return options.model_dump(exclude={"start_from"}) if options is not None else {}
        if stage == "evaluation":
            return config.evaluation.model_dump()
        return config.report.model_dump() if stage == "report" else {}


def kinship_of(path: Path) -> Kinship:
    """The run that ``path`` lies in: the nearest folder above it that has a config.yaml."""
    for folder in path.absolute().parents:
        if (folder / "config.yaml").is_file() and (folder / "corpus").is_dir():
            return Kinship(folder)
    raise BowerbirdError(f"{path}: lies in no run; a run is a folder with config.yaml and corpus/")
