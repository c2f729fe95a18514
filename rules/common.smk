# Binds the study to the rules: STUDY (what is asked), GRAPH (which job writes what, from what), PATHS, and the shell.
import sys
from pathlib import Path

from bowerbird.artifacts.files import write_text
from bowerbird.artifacts.versions import stage_version
from bowerbird.config.base import flags
from bowerbird.config.graph import Graph
from bowerbird.config.loading import dump_config, parse_config
from bowerbird.config.paths import Paths
from bowerbird.config.revisions import check_pins
from bowerbird.errors import BowerbirdError

try:
    STUDY = parse_config(config)
    for unpinned in check_pins(STUDY):
        print(f"warning: {unpinned}", file=sys.stderr)
except BowerbirdError as error:
    sys.exit(str(error))
PATHS = Paths.of(STUDY)
GRAPH = Graph(STUDY, PATHS)
# What does not change the bytes of an artifact: no rule tracks these options.
RUNTIME = flags(STUDY.runtime.model_dump())
TRAINING = flags(STUDY.training.model_dump())
# Jobs that use a GPU take a slot (profiles say how many there are); without a GPU they share the cores like any other.
GPU_SLOTS = int(
    STUDY.runtime.device.startswith("cuda") or Path("/dev/nvidia0").exists()
)
LAUNCH = (
    f"torchrun --standalone --nproc-per-node {STUDY.runtime.gpus} -m bowerbird.cli"
    if STUDY.runtime.gpus > 1
    else "bowerbird"
)
# A stop (TERM, USR1: time limit, preemption, scancel) reaches every process of a job. The command decides what to do with
# it; the shell around it and the log's `tee` stay until it has saved and ended, and its exit code is the job's.
shell.prefix(
    "set -euo pipefail; trap : TERM USR1; tee() {{ trap '' TERM USR1; command tee \"$@\"; }}; "
)


wildcard_constraints:
    features=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    codebook=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    pairs=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    experiment=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    stage=r"[a-z][a-z_]*",
    family=r"[a-z]+",
    shard=r"\d{4}",


onstart:
    write_text(PATHS.config, dump_config(STUDY), seal=True)
