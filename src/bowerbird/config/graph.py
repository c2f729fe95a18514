"""The graph of a study: which command writes each artifact, from which inputs, and on which parameters it depends.

This is the only place that knows it. The rules of the workflow (which add the name of the command), `convert`, `audit`,
`lineage`, `show`, `plan-cost` and the report ask a `Graph` and work nothing out themselves.

    graph = Graph(config, Paths.of(config))
    graph.fit_codebook("k256").inputs["features"]      the feature shards that the codebook is fitted on
    graph.writer_of("results/demo/pairs/knn4/shard-0000.npy").params     k, method, donors ...
"""

from __future__ import annotations

import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from bowerbird.config.base import ModelReference, Section, flags, one_line
from bowerbird.config.job import Job
from bowerbird.config.loading import load_config
from bowerbird.config.models import ModelFiles
from bowerbird.config.paths import Paths, bundled
from bowerbird.config.sections.evaluation import FAMILIES
from bowerbird.config.shard_names import distances_path, index_path
from bowerbird.config.study import Config

PHONE_HEAD = "bundled:nano-phones"  # names the phones in the summaries of pairs and residuals
SUMMARY_TABLES: tuple[Literal["summary", "differences", "cells"], ...] = ("summary", "differences", "cells")


class Graph:
    """Every job of a study. ``paths`` may lie elsewhere than the configuration says (a run that was moved)."""

    def __init__(self, config: Config, paths: Paths) -> None:
        self.config, self.paths = config, paths
        self.models = ModelFiles(config, paths)

    @classmethod
    def of_run(cls, root: str | Path) -> Graph:
        """The graph of the run in the folder ``root``, as its config.yaml says."""
        config = load_config([Path(root) / "config.yaml"])
        return cls(config, Paths(root, config.corpus.num_shards))

    def list_corpus(self) -> Job:
        """The manifest, and the table of what was set aside."""
        section = self.config.corpus
        values = _values(section, exclude={"trim_silence"})
        return Job(
            "list-corpus",
            "corpus",
            "",
            {"manifest": self.paths.manifest, "rejected": self.paths.rejected},
            {"listing": self._corpus_files()},
            {key: value for key, value in values.items() if key not in ("path", "audio_root")},
            options=flags(values),
            untracked=frozenset({"listing"}),
        )

    def _corpus_files(self) -> tuple[Path, ...]:
        """Files that list a corpus, where its kind has such files (a plain tree of audio has none)."""
        section, path = self.config.corpus, Path(bundled(self.config.corpus.path))
        if section.kind == "table":
            return (path / "utterances.tsv" if path.is_dir() else path,)
        if section.kind == "kaldi":
            names = ("wav.scp", "utt2spk", "text", "spk2gender", "segments")
            return tuple(path / name for name in names if (path / name).is_file())
        return ()

    def store_audio(self, shard: int | str) -> Job:
        """The samples of one shard."""
        values = {"trim_silence": self.config.corpus.trim_silence}
        return Job(
            "store-audio",
            "corpus",
            "",
            _shard_outputs("audio", self.paths.audio(shard)),
            {"manifest": (self.paths.manifest,)},
            {"shard": int(shard), **values},
            options=flags(values),
        )

    def list_trials(self) -> Job:
        """The trials that every experiment converts."""
        section = self.config.trials
        inputs = {"manifest": (self.paths.manifest,)}
        if section.file:
            inputs["list"] = (Path(section.file),)
        params = _values(section, exclude={"file"})
        outputs = {"trials": self.paths.trials}
        options, untracked = flags(_values(section)), frozenset({"list"})
        return Job("list-trials", "corpus", "", outputs, inputs, params, options=options, untracked=untracked)

    def extract_features(self, features: str, shard: int | str) -> Job:
        """Features of one shard."""
        section = self.config.features[features]
        return Job(
            "extract-features",
            "features",
            features,
            _shard_outputs("features", self.paths.features(features, shard)),
            {"audio": (self.paths.audio(shard),), "encoder": self.models.encoder_files(section)},
            _values(section, exclude={"encoder", "revision"}),
            options=flags(_values(self.models.located(section))),
            untracked=frozenset({"encoder"}),
        )

    def fit_codebook(self, codebook: str) -> Job:
        """K-means over training frames."""
        section = self.config.codebook[codebook]
        params = _values(section, exclude={"features", "assignment"})
        return Job(
            "fit-codebook",
            "codebook",
            codebook,
            {"codebook": self.paths.codebook(codebook), "sample": self.paths.codebook_table(codebook, "sample")},
            {"manifest": (self.paths.manifest,), "features": self._shards("features", section.features)},
            params,
            options=flags(params),
        )

    def assign_units(self, codebook: str, shard: int | str) -> Job:
        """The code of every frame of one shard."""
        section = self.config.codebook[codebook]
        params = {"assignment": section.assignment}
        return Job(
            "assign-units",
            "codebook",
            codebook,
            _shard_outputs("units", self.paths.units(codebook, shard)),
            {
                "codebook": (self.paths.codebook(codebook),),
                "features": (self.paths.features(section.features, shard),),
            },
            params,
            options=flags(params),
        )

    def summarize_units(self, codebook: str) -> Job:
        """How often each code is used, and by which speakers."""
        book = self.paths.codebook(codebook)
        inputs = {
            "manifest": (self.paths.manifest,),
            "codebook": (book,),
            "units": self._shards("units", codebook),
        }
        outputs = {"summary": self.paths.codebook_table(codebook, "summary")}
        return Job("summarize-units", "codebook", codebook, outputs, inputs)

    def probe_residual(self, codebook: str) -> Job:
        """How well linear probes read speaker and phone from the quantization residual."""
        section, book = self.config.codebook[codebook], self.paths.codebook(codebook)
        bottleneck = self._bottleneck(codebook)
        params = {"assignment": section.assignment, "phonetic": PHONE_HEAD}
        return Job(
            "probe-residual",
            "codebook",
            codebook,
            self.paths.residual_tables(codebook),
            {
                "manifest": (self.paths.manifest,),
                "codebook": (book,),
                "features": self._shards("features", section.features),
                "audio": self.paths.all_shards("audio"),
                "model": bottleneck,
            },
            params,
            options=" ".join([flags(params), *(["--model", str(bottleneck[0].parent)] if bottleneck else [])]),
        )

    def _bottleneck(self, codebook: str) -> tuple[Path, ...]:
        """The first model that narrows the residual of this codebook; () without one."""
        for name, experiment in self.config.experiments.items():
            stage = experiment.bottleneck_stage()
            if stage and experiment.codebook_name() == codebook:
                return self.models.files(experiment.model(stage), name)
        return ()

    def probed_codebooks(self) -> list[str]:
        """Codebooks whose residual a system uses."""
        return sorted({name for e in self.config.experiments.values() if (name := e.codebook_name())})

    def search_pairs(self, pairs: str, shard: int | str) -> Job:
        """The neighbors of the frames of one shard; donors may lie in any shard."""
        section = self.config.pairs[pairs]
        values = _values(section, exclude={"features"})
        path = self.paths.pairs(pairs, shard)
        outputs = {
            "pairs": path,
            "distances": distances_path(path),
            "index": index_path(path),
        }
        inputs = {
            "manifest": (self.paths.manifest,),
            "features": self._shards("features", section.features),
            "search_keys": tuple(path for name in section.search for path in self._shards("features", name)),
        }
        params = {**values, "shard": int(shard)}
        return Job("search-pairs", "pairs", pairs, outputs, inputs, params, options=flags(values))

    def summarize_pairs(self, pairs: str) -> Job:
        """Quality of a variant of pairs; units of the first codebook on the same features measure its content."""
        features = self.config.pairs[pairs].features
        beside = [name for name, section in self.config.codebook.items() if section.features == features]
        params = {"phonetic": PHONE_HEAD}
        return Job(
            "summarize-pairs",
            "pairs",
            pairs,
            {"quality": self.paths.pairs_quality(pairs)},
            {
                "manifest": (self.paths.manifest,),
                "pairs": self._shards("pairs", pairs),
                "features": self._shards("features", features),
                "units": self._shards("units", beside[0]) if beside else (),
                "audio": self.paths.all_shards("audio"),
            },
            params,
            options=flags(params),
        )

    def train_stage(self, experiment: str, stage: str) -> Job:
        """One training stage of one experiment."""
        chosen = self.config.experiments[experiment]
        options = chosen.stage_options(stage)
        sources = chosen.training_inputs(stage)
        folder = self.paths.model(experiment, stage)
        start = sources.pop("start", None)
        inputs, models = self.models.resolve(experiment, sources)
        values = options.model_dump()
        if isinstance(start, ModelReference):
            inputs["start"] = self.models.files(start, experiment)
            values["start_from"] = str(self.models.as_option(start, experiment))
        text = one_line({"system": chosen.system_name, stage: values})
        names = ("model.safetensors", "config.json", "metrics.jsonl")
        return Job(
            "train-stage",
            "training",
            f"{experiment}/{stage}",
            {name.partition(".")[0]: folder / name for name in names},
            {"manifest": (self.paths.manifest,), **inputs},
            chosen.training_params(stage),
            models,
            flags({"experiment": text}),
        )

    def convert_trials(self, experiment: str) -> Job:
        """All trials by one experiment."""
        chosen = self.config.experiments[experiment]
        inputs, models = self.models.resolve(experiment, chosen.conversion_inputs())
        params, section = chosen.conversion_params(), _values(self.config.conversion)
        tables = {"manifest": (self.paths.manifest,), "trials": (self.paths.trials,)}
        return Job(
            "convert-trials",
            "conversion",
            experiment,
            {"table": self.paths.conversion(experiment)},
            {**tables, "audio": self.paths.all_shards("audio"), **inputs},
            {**params, **section},
            models,
            flags({"experiment": one_line(params), **section}),
            folder=self.paths.conversion(experiment).parent,
        )

    def transcribe_sources(self) -> Job:
        """The transcript of each source by the recognizer."""
        params = _values(self.config.evaluation, include={"asr", "asr_revision"})
        inputs = {"trials": (self.paths.trials,), "audio": self.paths.all_shards("audio")}
        outputs = {"transcripts": self.paths.evaluation_table("transcripts")}
        return Job("transcribe-sources", "evaluation", "", outputs, inputs, params, options=flags(params))

    def score_trials(self, experiment: str, family: str) -> Job:
        """One family of metrics over one experiment's conversions."""
        values = _values(self.config.evaluation, include=set(FAMILIES[family]))
        transcripts = (self.paths.evaluation_table("transcripts"),) if family == "intelligibility" else ()
        return Job(
            "score-trials",
            "evaluation",
            experiment,
            {"scores": self.paths.scores(experiment, family)},
            {
                "conversion": (self.paths.conversion(experiment),),
                "trials": (self.paths.trials,),
                "manifest": (self.paths.manifest,),
                "audio": self.paths.all_shards("audio"),
                "transcripts": transcripts,
            },
            {"family": family, **values},
            options=" ".join([flags(values), *(["--transcripts", str(transcripts[0])] if transcripts else [])]),
        )

    def summarize_scores(self) -> Job:
        """Means with intervals over all experiments."""
        params = _values(self.config.evaluation, include={"bootstrap", "confidence", "seed"})
        families = self.config.evaluation.families
        scores = tuple(self.paths.scores(name, family) for name in self.config.experiments for family in families)
        outputs: dict[str, Path] = {name: self.paths.evaluation_table(name) for name in SUMMARY_TABLES}
        recorded = {**params, "experiments": sorted(self.config.experiments)}
        return Job("summarize-scores", "evaluation", "", outputs, {"scores": scores}, recorded, options=flags(params))

    def write_report(self) -> Job:
        """The static page."""
        config, paths = self.config, self.paths
        inputs = {
            "corpus": (paths.manifest, paths.rejected, paths.trials),
            "audio": paths.all_shards("audio"),
            "codebooks": tuple(paths.codebook_table(name, "summary") for name in config.codebook),
            "residuals": tuple(
                path for name in self.probed_codebooks() for path in paths.residual_tables(name).values()
            ),
            "pairs": tuple(paths.pairs_quality(name) for name in config.pairs),
            "training": tuple(paths.model(*trained) / "metrics.jsonl" for trained in self.trained_stages()),
            "conversion": tuple(paths.conversion(name) for name in config.experiments),
            "scores": self.summarize_scores().inputs["scores"],
            "evaluation": tuple(self.summarize_scores().outputs.values()),
        }
        params, folder = _values(config.report), paths.report.parent
        return Job(
            "write-report", "report", "", {"page": paths.report}, inputs, params, options=flags(params), folder=folder
        )

    def trained_stages(self) -> list[tuple[str, str]]:
        """(experiment, stage) of every model that this study trains itself."""
        experiments = self.config.experiments.items()
        return [(name, stage) for name, e in experiments for stage in e.stages if stage not in e.reuse]

    def _shards(self, what: str, name: str) -> tuple[Path, ...]:
        return self.paths.all_shards(what, name)

    def jobs(self) -> list[Job]:
        """Every job that the configuration allows, each after those of its inputs; features that nobody reads too."""
        listed = list(self._list_jobs())
        writers = {path: number for number, job in enumerate(listed) for path in job.outputs.values()}
        sorter = graphlib.TopologicalSorter[int]()
        for number, job in enumerate(listed):
            sorter.add(number, *(writers[path] for path in job.files if path in writers))
        return [listed[number] for number in sorter.static_order()]

    def _list_jobs(self) -> Iterator[Job]:
        """The jobs by stage."""
        config, shards = self.config, range(self.config.corpus.num_shards)
        yield self.list_corpus()
        yield from (self.store_audio(shard) for shard in shards)
        yield self.list_trials()
        yield from (self.extract_features(name, shard) for name in config.features for shard in shards)
        for name in config.codebook:
            yield self.fit_codebook(name)
            yield from (self.assign_units(name, shard) for shard in shards)
            yield self.summarize_units(name)
        for name in config.pairs:
            yield from (self.search_pairs(name, shard) for shard in shards)
            yield self.summarize_pairs(name)
        yield from (self.train_stage(*trained) for trained in self.trained_stages())
        yield from (self.probe_residual(name) for name in self.probed_codebooks())
        yield from (self.convert_trials(name) for name in config.experiments)
        yield self.transcribe_sources()
        families = config.evaluation.families
        yield from (self.score_trials(name, family) for name in config.experiments for family in families)
        yield self.summarize_scores()
        yield self.write_report()

    @functools.cached_property
    def writers(self) -> dict[Path, Job]:
        """The job that writes each artifact."""
        return {path: job for job in self.jobs() for path in job.outputs.values()}

    def writer_of(self, path: str | Path) -> Job | None:
        """The job that writes ``path``; None where no job of this study does."""
        path = Path(path)
        if path in self.writers:
            return self.writers[path]
        return next((self.folders[folder] for folder in path.parents if folder in self.folders), None)

    @functools.cached_property
    def folders(self) -> dict[Path, Job]:
        """The jobs that write further files beside their artifacts, by the folder of these."""
        return {job.folder: job for job in self.writers.values() if job.folder is not None}

    def needed(self) -> list[Job]:
        """The jobs that the report needs, directly or through others: what a run makes."""
        found: dict[tuple[Path, ...], Job] = {}
        waiting = [self.write_report()]
        while waiting:
            job = waiting.pop()
            key = tuple(job.outputs.values())
            if key not in found:
                found[key] = job
                waiting += [writer for path in job.files if (writer := self.writers.get(path))]
        return list(found.values())


def _values(section: Section, include: set[str] | None = None, exclude: set[str] | None = None) -> dict[str, Any]:
    """The fields of a section by name, in their order."""
    return section.model_dump(include=include, exclude=exclude)


def _shard_outputs(role: str, path: Path) -> dict[str, Path]:
    """An array and its index."""
    return {role: path, "index": index_path(path)}
