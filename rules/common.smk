# The validated study (STUDY), its paths (PATHS), and look-ups that several rules use.
# What does not change the bytes of an artifact is in RUNTIME and TRAINING, which no rule tracks.
import json
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from bowerbird.artifacts.files import write_text
from bowerbird.artifacts.versions import stage_version
from bowerbird.cli.options import flags
from bowerbird.config.loading import dump_config, parse_config
from bowerbird.config.paths import Layout, bundled
from bowerbird.config.revisions import check_pins
from bowerbird.config.systems.base import conversion_params, stage_params
from bowerbird.errors import BowerbirdError

try:
    STUDY = parse_config(config)
    for unpinned in check_pins(STUDY):
        print(f"warning: {unpinned}", file=sys.stderr)
except BowerbirdError as error:
    sys.exit(str(error))

# A stop (TERM, USR1: time limit, preemption, scancel) reaches every process of a job. The command decides what to do with
# it; the shell around it and the log's `tee` stay until it has saved and ended, and its exit code is the job's.
shell.prefix(
    "set -euo pipefail; trap : TERM USR1; tee() {{ trap '' TERM USR1; command tee \"$@\"; }}; "
)

PATHS = Layout.of(STUDY)
ROOT = str(PATHS.root)
RUNTIME = flags(STUDY.runtime)
TRAINING = flags(STUDY.training)
# Who hears the phones in the audits of pairs and residuals.
PHONETIC = "bundled:nano-phones"
# Jobs that use a GPU take a slot (profiles say how many there are); without a GPU they share the cores like any other.
GPU_SLOTS = int(
    STUDY.runtime.device.startswith("cuda") or Path("/dev/nvidia0").exists()
)
LAUNCH = (
    f"torchrun --standalone --nproc-per-node {STUDY.runtime.gpus} -m bowerbird.cli"
    if STUDY.runtime.gpus > 1
    else "bowerbird"
)


wildcard_constraints:
    features=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    codebook=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    pairs=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    experiment=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    stage=r"[a-z][a-z_]*",
    family=r"[a-z]+",
    shard=r"\d{4}",


onstart:
    write_text(PATHS.config, dump_config(STUDY), seal=True)


def local_file(spec, name):
    """[the file] if `spec` is a local or bundled folder that holds `name`, so that a change of it is seen; else []."""
    path = Path(bundled(spec)) / name
    return [str(path)] if path.is_file() else []


def encoder_files(spec):
    """What a local encoder is made of: configuration and weights, in one file or several."""
    folder = Path(bundled(spec.removeprefix("phonetic:").removeprefix("voice-print:")))
    patterns = ("*.json", "*.safetensors", "pytorch_model*.bin")
    files = sorted(str(path) for pattern in patterns for path in folder.glob(pattern))
    settings = folder / "config.json"
    if spec.startswith("phonetic:") and settings.is_file():
        below = json.loads(settings.read_text(encoding="utf-8")).get("encoder", "")
        files += encoder_files(below) if below else []
    return files


def encoder_inputs(options):
    """Files of the encoder that a variant of `features` names: on disk already, or a model that this study trains."""
    folder = PATHS.trained_encoder(STUDY, options)
    if folder:
        return [str(folder / name) for name in ("config.json", "model.safetensors")]
    return encoder_files(options.encoder)


def corpus_files():
    """Files that list a corpus, where its kind has such files (a plain tree of audio has none)."""
    path = Path(bundled(STUDY.corpus.path))
    if STUDY.corpus.kind == "table":
        return [str(path / "utterances.tsv" if path.is_dir() else path)]
    if STUDY.corpus.kind == "kaldi":
        names = ("wav.scp", "utt2spk", "text", "spk2gender", "segments")
        return [str(path / name) for name in names if (path / name).is_file()]
    return []


def trained_stages():
    """(experiment, stage) of every model this study trains itself."""
    return [
        (name, stage)
        for name, experiment in STUDY.experiments.items()
        for stage in experiment.stages
        if stage not in experiment.reuse
    ]


def model_file(experiment, stage):
    """The model of a stage: the experiment's own, or the one it reuses."""
    owner = STUDY.experiments[experiment].reuse.get(stage, experiment)
    return str(PATHS.model(owner, stage) / "model.safetensors")


def probed_codebooks():
    """Codebooks whose residual some system uses."""
    return sorted(
        {e.codebook for e in STUDY.experiments.values() if e.system == "qrvc"}
    )


def bottleneck_model(codebook):
    """[model of the first QR-VC with this codebook and a bottleneck], or []."""
    for name, experiment in STUDY.experiments.items():
        if (
            experiment.system == "qrvc"
            and experiment.codebook == codebook
            and experiment.resynthesis.variation_dim
        ):
            return [model_file(name, "resynthesis")]
    return []


def vocoder_files(experiment_name):
    """[the vocoder that an experiment names: bundled, of another experiment, or published]; [] if the hub has it."""
    spec = vocoder_owner(experiment_name)
    if spec.startswith("bundled:"):
        return [str(Path(bundled(spec)) / "model.safetensors")]
    if published := getattr(STUDY.experiments[spec], "published", ""):
        return local_file(published, "bigvgan_generator.pt")
    return [model_file(spec, "vocoder")]


def vocoder_owner(experiment_name):
    """The experiment whose vocoder an experiment uses: its own, where it is a published one."""
    vocoder = getattr(STUDY.experiments[experiment_name], "vocoder", "")
    return vocoder if isinstance(vocoder, str) else experiment_name


def artifact_inputs(experiment_name, artifacts):
    """Input files by role, for artifacts named in an experiment's `trains_on` and `converts_with`."""
    experiment = STUDY.experiments[experiment_name]
    files = {}
    for artifact in artifacts:
        if artifact == "features":
            files["features"] = PATHS.all_shards("features", experiment.features)
        elif artifact.rstrip("?") in OTHERS:
            if variant := getattr(experiment, artifact.rstrip("?")):
                files[artifact.rstrip("?")] = PATHS.all_shards("features", variant)
        elif artifact == "audio":
            files["audio"] = PATHS.all_shards("audio")
        elif artifact == "pairs" or (artifact == "pairs?" and experiment.pairs):
            files["pairs"] = PATHS.all_shards("pairs", experiment.pairs)
        elif artifact == "codebook":
            files["codebook"] = PATHS.codebook(experiment.codebook)
        elif artifact == "units":
            files["units"] = PATHS.all_shards("units", experiment.codebook)
        elif artifact == "vocoder":
            files["vocoder"] = vocoder_files(experiment_name)
        elif artifact.startswith("stage:"):
            stage = artifact.removeprefix("stage:")
            files[stage] = model_file(experiment_name, stage)
    return {
        role: [str(p) for p in paths] if isinstance(paths, list) else str(paths)
        for role, paths in files.items()
    }


# Variants of `features` that an experiment names besides its features.
OTHERS = ("mels", "phones", "voices")
ROLES = (
    "features",
    "audio",
    "pairs",
    "units",
    "codebook",
    "manifest",
    "trials",
    "start",
)


def artifact_flags(wildcards, input):
    """The command-line options that name those files: `--features A B --models vocoder=FOLDER`."""
    words, models = [], []
    for role, files in input.items():
        files = [files] if isinstance(files, str) else list(files)
        if role in ("features", "audio", "pairs", "units", "codebook", *OTHERS):
            words += [f"--{role}", *files]
        elif role not in ROLES:
            owner = STUDY.experiments.get(vocoder_owner(wildcards.experiment))
            hub = f"hub:{getattr(owner, 'published', '')}"
            models.append(f"{role}={Path(files[0]).parent if files else hub}")
    return " ".join(words + (["--models", *models] if models else []))
