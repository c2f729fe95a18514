"""The study's configuration: one frozen model a section, the only place where a default stands.

``load_config`` merges files (later ones override, ``null`` removes a key), checks names, types and ranges, and turns
every mistake into one line in the configuration's own words. Fields say their unit; whatever does not change the bytes
of an artifact (threads, devices, batch sizes of extraction) is in ``runtime`` and nowhere else.
"""

from __future__ import annotations

import json
import os
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import Field

from bowerbird.artifacts import BowerbirdError
from bowerbird.experiments import Experiment, Section
from bowerbird.references import check_references
from bowerbird.references import nearest as _nearest

Name = str


REQUIRED_COLUMNS = ("utt_id", "speaker", "path")  # of a corpus of kind table
OPTIONAL_COLUMNS = ("gender", "language", "session", "text", "split")


class CorpusConfig(Section):
    """Where the speech is, how it is split, what is refused."""

    kind: Literal["table", "folder", "kaldi", "librispeech", "libritts", "vctk", "mls"] = Field(
        "table", description="layout of the corpus on disk"
    )
    path: str = Field(
        "bundled:demo", description="folder, table or Kaldi directory; bundled:demo is the shipped corpus"
    )
    audio_root: str = Field(
        "", description="folder that relative paths of a table start from; default: the table's own"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="kind table: our column name -> the table's column name, where they differ"
    )
    language: str = Field("en", description="language of utterances that do not name one (BCP 47)")
    microphone: Literal["mic1", "mic2"] = Field("mic1", description="kind vctk: which microphone")
    subsets: list[str] = Field(default_factory=list, description="subfolders to read (train-clean-100 ...); empty: all")
    num_shards: int = Field(2, ge=1, description="audio, features and pairs are made in this many jobs")
    valid_speakers: float = Field(
        0.05, ge=0, lt=1, description="fraction of speakers in valid (where the corpus names no split)"
    )
    test_speakers: float = Field(
        0.1, ge=0, lt=1, description="fraction of speakers in test (where the corpus names no split)"
    )
    seen_utterances: int = Field(
        0,
        ge=0,
        description="utterances of each training speaker kept out of training (split seen), for seen-to-seen trials",
    )
    split_seed: int = Field(0, ge=0, description="changes which speakers are in which split")
    trim_silence: bool = Field(False, description="cut leading and trailing silence (Silero VAD)")
    min_duration_s: float = Field(0.5, ge=0, description="shorter files are refused, seconds")
    max_duration_s: float = Field(60.0, gt=0, description="longer files are refused, seconds")
    max_clipped_fraction: float = Field(
        0.01, ge=0, le=1, description="share of samples at full scale before a file is refused"
    )
    max_rejected_fraction: float = Field(0.05, ge=0, le=1, description="share of refused files before the run stops")
    require_text: bool = Field(False, description="refuse utterances without a transcript")

    @pydantic.model_validator(mode="after")
    def _columns_are_known(self) -> CorpusConfig:
        known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
        for name in self.columns:
            if name not in known:
                raise ValueError(f"corpus.columns.{name}: unknown column{_nearest(name, known)}")
        return self


PHONETIC, VOICE_PRINT = "phonetic:", "voice-print:"  # before the name of an encoder of another kind
SPECTROGRAMS = ("log-mel", "log-mel-24k", "log-magnitude")  # encoders that nothing is learned or downloaded for


class FeaturesConfig(Section):
    """Self-supervised features of one layer (WavLM, HuBERT, wav2vec 2.0)."""

    encoder: str = Field(
        "bundled:nano-encoder",
        description="hub id, local directory, bundled:nano-encoder; a spectrogram (layer: 0): log-mel, 80 bands, "
        "log-magnitude, 513 bins, or log-mel-24k, the 100 bands of NVIDIA's BigVGANs; "
        "phonetic:NAME: phone posteriors of bundled:nano-phones or a CTC model, hidden states of Whisper's encoder; "
        "phonetic:trained:EXPERIMENT: of the Conformer that Takin-VC's stage ppg trains, posteriors (layer: 0) or states of a block; "
        "voice-print:ge2e, or voice-print:NAME of an ECAPA-TDNN: one row an utterance, of its first max_window_s seconds",
    )
    revision: str = Field("", description="commit of a hub id; pin it for published work")
    layer: int = Field(3, ge=0, description="transformer layer whose output is kept; 0 is its input")
    normalize_input: bool = Field(
        False, description="zero mean, unit variance per utterance (published VC systems: no)"
    )
    padding: Literal["none", "centre"] = Field(
        "none",
        description="none: (n - 80) // 320 frames as the model gives; centre: 40 zeros each side, n // 320 frames",
    )
    max_window_s: float = Field(
        30.0, gt=1, description="longer utterances go through in overlapping windows of this length"
    )
    overlap_s: float = Field(2.0, ge=0.2, description="overlap of those windows, seconds")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the forward pass; bfloat16 needs a GPU that has it"
    )

    @pydantic.model_validator(mode="after")
    def _spectrogram_has_no_layers(self) -> FeaturesConfig:
        spectrogram = self.encoder in SPECTROGRAMS
        if spectrogram and (self.layer or self.normalize_input or self.precision != "float32"):
            raise ValueError(
                f"features.encoder: {self.encoder}: has no layers and is never normalised; set layer: 0, and leave "
                "normalize_input and precision at their defaults"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _windows_advance(self) -> FeaturesConfig:
        if self.overlap_s >= self.max_window_s:
            raise ValueError(
                f"features.overlap_s: {self.overlap_s:g}: not shorter than max_window_s = {self.max_window_s:g}; "
                "lower it, or raise max_window_s"
            )
        return self


class CodebookConfig(Section):
    """K-means over features."""

    features: Name = Field("nano", description="name in `features`")
    num_codes: int = Field(256, ge=2, le=65536, description="number of clusters K")
    sample_frames: int = Field(200_000, ge=100, description="frames drawn from the training split to fit on")
    init: Literal["kmeans++", "random"] = Field("kmeans++", description="how centroids start")
    restarts: int = Field(1, ge=1, description="fits; the one of lowest inertia is kept")
    iterations: int = Field(25, ge=1, description="Lloyd iterations a fit")
    assignment: Literal["cosine", "euclidean"] = Field(
        "cosine", description="look-up of a frame's code (QR-VC: cosine; the un-normalised centroid is returned)"
    )
    seed: int = Field(0, ge=0, description="of the sample and of the start")


class PairsConfig(Section):
    """Synthetic training pairs: each frame of a target utterance with its k nearest frames of a donor speaker."""

    features: Name = Field("nano", description="name in `features`")
    k: int = Field(4, ge=1, le=64, description="neighbours a frame")
    method: Literal["nearest", "random", "shuffled"] = Field(
        "nearest",
        description="nearest: cosine kNN; random: any frames of the donor; shuffled: the kNN result out of order",
    )
    donors_per_utterance: int = Field(1, ge=1, description="donor speakers of each target utterance")
    donor_gender: Literal["any", "same", "cross"] = Field("any", description="gender of donors relative to the target")
    donor_language: Literal["any", "same", "other"] = Field(
        "any", description="language of donors relative to the target"
    )
    pool: Literal["speaker", "chapter"] = Field(
        "speaker", description="donor pool: all of a speaker, or one chapter of them"
    )
    same_speaker: bool = Field(
        False, description="donor = the target's own other utterances (prematching, as kNN-VC's vocoder)"
    )
    min_pool_s: float = Field(5.0, ge=0, description="speakers with less speech are no donors, seconds")
    max_pool_s: float = Field(0.0, ge=0, description="at most this much of a donor's speech, seconds; 0: all")
    seed: int = Field(0, ge=0, description="of the choice of donors and of random pairings")


class TrialsConfig(Section):
    """Which source is converted to which target, and what the system may hear of the target."""

    split: Literal["train", "valid", "test", "seen"] = Field(
        "test",
        description="speakers come from this split; seen: training speakers, by what corpus.seen_utterances kept",
    )
    sources_per_speaker: int = Field(4, ge=1, description="source utterances of each speaker")
    targets_per_source: int = Field(2, ge=1, description="target speakers of each source utterance")
    reference_s: float = Field(
        10.0, gt=0, description="speech of the target the system may hear, seconds (whole utterances)"
    )
    conditions: list[float] = Field(
        default_factory=list,
        description="several amounts of the target's speech, seconds: each trial once for each, the longer containing the "
        "shorter (3 10 30 60); empty: reference_s alone",
    )
    pools: Literal["utterance", "session"] = Field(
        "utterance",
        description="session: what the system hears of the target and what the judge compares with are of different "
        "sessions (chapters)",
    )
    cross_gender: Literal["any", "same", "cross"] = Field(
        "any", description="gender of the target relative to the source"
    )
    cross_language: Literal["any", "same", "other"] = Field(
        "any", description="language of the target relative to the source"
    )
    file: str = Field(
        "", description="a published list of trials to take instead of drawing one; the split is then all"
    )
    file_format: Literal["freevc", "linearvc", "seed-tts-eval", "versa"] = Field(
        "freevc", description="of that list: title|src|tgt, LinearVC's CSV, meta.lst, or a folder of scp files"
    )
    seed: int = Field(0, ge=0, description="of the choice of sources and targets")

    @pydantic.field_validator("conditions")
    @classmethod
    def _conditions_are_seconds(cls, conditions: list[float]) -> list[float]:
        if any(seconds <= 0 for seconds in conditions) or len(set(conditions)) < len(conditions):
            raise ValueError(f"trials.conditions: {conditions}: must be different numbers of seconds above 0")
        return sorted(conditions)


class TrainingConfig(Section):
    """The training loop's housekeeping; none of it changes the weights."""

    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints kept")
    log_every: int = Field(20, ge=1, description="steps between lines of metrics")
    audio_samples: int = Field(2, ge=0, description="validation utterances written to TensorBoard as audio")


class ConversionConfig(Section):
    """How converted waveforms are written."""

    loudness: Literal["source", "none"] = Field(
        "source", description="source: RMS of the source utterance; none: as the system gives it"
    )
    max_chunk_s: float = Field(20.0, gt=1, description="longer inputs are vocoded in overlapping chunks, seconds")


class EvaluationConfig(Section):
    """Models that judge. Every score row names them."""

    asr: str = Field("pocketsphinx", description="pocketsphinx, or a transformers Whisper/CTC directory or hub id")
    asr_revision: str = Field("", description="commit of a hub id")
    normalizer: Literal["whisper-english", "whisper-basic"] = Field(
        "whisper-english", description="of transcripts before WER and CER"
    )
    closed_set: bool = Field(
        True, description="also recognise which of the trials' sentences was said (pocketsphinx grammar)"
    )
    verifier: str = Field(
        "resemblyzer",
        description="resemblyzer; a folder or hub id of ECAPA-TDNN weights in speechbrain's format; a folder of "
        "WavLMForXVector (WavLM-SV); a folder with model.onnx (ReDimNet and others)",
    )
    second_verifier: str = Field("", description="another verifier beside the first; its metrics end in _second")
    quality: bool = Field(True, description="DNSMOS P.835 and P.808")
    quality_trials: int = Field(
        0, ge=0, description="trials that DNSMOS judges (it is the slowest judge), the same for all experiments; 0: all"
    )
    opinions: dict[str, str] = Field(
        default_factory=dict,
        description="further opinion scores: name (utmos, nisqa) -> folder with utmos22_strong*.pt, nisqa.tar or model.onnx",
    )
    prosody: bool = Field(True, description="F0 by swift-f0, voiced frames of both, log-F0 correlation")

    @pydantic.field_validator("opinions")
    @classmethod
    def _names_of_opinions(cls, opinions: dict[str, str]) -> dict[str, str]:
        for name in opinions:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(
                    f"evaluation.opinions: {name!r}: a metric's name has lower-case letters, digits and '_'"
                )
        return opinions

    bootstrap: int = Field(1000, ge=100, description="bootstrap replicates of each interval")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of intervals")
    seed: int = Field(0, ge=0, description="of the bootstrap")


class ReportConfig(Section):
    """The static report."""

    title: str = Field("bowerbird", description="heading of the page")
    players: int = Field(12, ge=0, description="trials shown with players and spectrograms")
    listening_trials: int = Field(
        4, ge=0, description="of those, trials that the listening test asks about; 0: no test"
    )


class RuntimeConfig(Section):
    """How things run here. Nothing in this section changes the bytes of an artifact, changing it re-plans nothing."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    threads: int = Field(1, ge=1, description="CPU threads a job")
    batch_s: float = Field(60.0, gt=0, description="audio in one batch of feature extraction, seconds")
    workers: int = Field(0, ge=0, description="batch-loading processes of training; 0: none")
    gpus: int = Field(1, ge=0, description="GPUs of a training job; above 1 it runs under torchrun")


class Config(Section):
    """A study."""

    run: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="results go to <results>/<run>/")
    results: str = Field("results", description="folder of all runs")
    strict: bool = Field(False, description="models of a hub without a pinned commit are an error, not a warning")
    corpus: CorpusConfig = Field(default_factory=CorpusConfig, description="where the speech is")
    features: dict[Name, FeaturesConfig] = Field(default_factory=dict, description="variants by name")
    codebook: dict[Name, CodebookConfig] = Field(default_factory=dict, description="variants by name")
    pairs: dict[Name, PairsConfig] = Field(default_factory=dict, description="variants by name")
    trials: TrialsConfig = Field(default_factory=TrialsConfig, description="what is converted")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="the loop's housekeeping")
    experiments: dict[Name, Experiment] = Field(
        default_factory=dict, description="systems and what differs from their defaults"
    )
    conversion: ConversionConfig = Field(default_factory=ConversionConfig, description="how waveforms are written")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="who judges")
    report: ReportConfig = Field(default_factory=ReportConfig, description="the page")
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig, description="how things run here")

    @pydantic.model_validator(mode="after")
    def _references_exist(self) -> Config:
        check_references(self)
        return self


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """``overlay`` over ``base``, recursively; ``None`` removes a key; dotted keys reach into sections."""
    result = dict(base)
    for key, value in overlay.items():
        if "." in key:
            head, _, rest = key.partition(".")
            value, key = {rest: value}, head
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise BowerbirdError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A YAML mapping from a file, with errors that name file and line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise BowerbirdError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        loaded = yaml.load(text, _UniqueKeyLoader)  # a SafeLoader: plain values only
    except BowerbirdError as error:
        raise BowerbirdError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise BowerbirdError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise BowerbirdError(f"{path}: a configuration is a mapping of sections, this is a {type(loaded).__name__}")
    return loaded


def load_config(files: Sequence[str | os.PathLike[str]] = (), overrides: Mapping[str, Any] | None = None) -> Config:
    """Merge ``files`` in order, then ``overrides``, and check the result."""
    merged: dict[str, Any] = {}
    for path in files:
        merged = merge(merged, read_yaml(path))
    return parse_config(merge(merged, overrides or {}))


VARIANTS = ("features", "codebook", "pairs", "experiments")  # sections that hold variants by name


def resolve_likes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Variants that say ``like: OTHER`` get the other's values, and their own over them."""
    resolved = dict(values)
    for section in VARIANTS:
        variants = values.get(section)
        if isinstance(variants, Mapping):
            resolved[section] = {name: _like(section, name, variants, ()) for name in variants}
    return resolved


def _like(section: str, name: str, variants: Mapping[str, Any], above: tuple[str, ...]) -> Any:
    variant = variants[name]
    if not isinstance(variant, Mapping) or "like" not in variant:
        return variant
    other, own = variant["like"], {key: value for key, value in variant.items() if key != "like"}
    where = f"{section}.{name}.like"
    if not isinstance(other, str) or other not in variants:
        raise BowerbirdError(
            f"configuration: {where}: {other!r} is not defined in `{section}`{_nearest(str(other), variants)}"
        )
    if other == name or other in above:
        raise BowerbirdError(
            f"configuration: {where}: {other!r}: goes in a circle ({' -> '.join((*above, name, other))})"
        )
    base = _like(section, other, variants, (*above, name))
    if not isinstance(base, Mapping):
        return variant
    if own.get("system", base.get("system")) != base.get("system"):
        raise BowerbirdError(
            f"configuration: {where}: {other!r} is of system {base.get('system')}, not {own['system']}"
        )
    return merge(base, own)


def parse_config(values: Mapping[str, Any]) -> Config:
    """Check a merged mapping; every mistake found is one line of the error."""
    try:
        return Config.model_validate(resolve_likes(merge({}, values)))
    except pydantic.ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise BowerbirdError("configuration: " + "\n               ".join(lines)) from None


def _explain(error: Mapping[str, Any]) -> str:
    """One pydantic error in the configuration's own words."""
    tags = {"knnvc", "vocoder", "anchor", "palindromic", "qrvc", "takin", "stepback"}
    location = [str(part) for part in error["loc"]]
    if len(location) > 2 and location[0] == "experiments" and location[2] in tags:
        del location[2]
    where = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(location[-1], _known_keys(location[:-1]))}"
    if error["type"] == "union_tag_invalid":
        return f"{where}.system: {error['ctx']['tag']!r} is no system; known: {error['ctx']['expected_tags']}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{where} = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _known_keys(location: Sequence[str]) -> list[str]:
    """Field names of the section at ``location`` (names of variants are skipped over)."""
    models: list[Any] = [Config]
    for part in location:
        fields = [m.model_fields[part].annotation for m in models if part in getattr(m, "model_fields", {})]
        if fields:
            models = [m for annotation in fields for m in _models_of(annotation)]
    return sorted({name for m in models for name in m.model_fields})


def _models_of(annotation: Any) -> list[Any]:
    """The models inside an annotation: ``Model``, ``dict[str, Model]`` or a union of models."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [m for argument in typing.get_args(annotation) for m in _models_of(argument)]


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML, defaults included."""
    return yaml.safe_dump(json.loads(config.model_dump_json()), sort_keys=False, allow_unicode=True, width=110)


def json_schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors."""
    schema = Config.model_json_schema()
    likes = {"type": "string", "description": "another variant of this section, whose values hold where not overridden"}
    for definition in schema["$defs"].values():
        if definition.get("title") in _variant_models():
            definition["properties"]["like"] = likes
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "bowerbird study"
    return schema


def _variant_models() -> set[str]:
    """Names of the models that variants are made of."""
    return {model.__name__ for section in VARIANTS for model in _models_of(Config.model_fields[section].annotation)}


def bundled(spec: str) -> str:
    """Resolve ``bundled:NAME`` to its folder inside the package; anything else is returned as it is."""
    if not spec.startswith("bundled:"):
        return spec
    assets = Path(__file__).parent / "assets"
    folder = assets / spec.removeprefix("bundled:")
    if not folder.exists():
        known = sorted(p.name for p in assets.iterdir() if p.is_dir())
        raise BowerbirdError(f"{spec}: nothing bundled under that name{_nearest(folder.name, known)}")
    return str(folder)
