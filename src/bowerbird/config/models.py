"""Where the models of a study lie: trained here, bundled, in folders of other runs, or on a hub."""

from __future__ import annotations

import json
from pathlib import Path

from bowerbird.config.base import ModelReference
from bowerbird.config.paths import ASSETS, Paths, bundled
from bowerbird.config.sections.features import FeaturesConfig
from bowerbird.config.study import Config
from bowerbird.config.systems.base import Inputs

MODEL_FILES = ("model.safetensors", "config.json")  # of a folder that `train-stage` writes
FOREIGN_FILES = ("config.json", "bigvgan_generator.pt")  # of NVIDIA's BigVGANs


class ModelFiles:
    """The folders and files behind the model references of a study."""

    def __init__(self, config: Config, paths: Paths) -> None:
        self.config, self.paths = config, paths

    def locate(self, reference: ModelReference, owner: str = "") -> Path | ModelReference:
        """The folder of a model; the reference itself where the hub has it. ``owner``: the experiment that refers to it."""
        if reference.kind == "trained":
            name = reference.name or owner
            model = self.config.experiments[name].model(reference.stage)
            if model.kind != "trained":
                return self.locate(model)
            return self.paths.model(model.name or name, reference.stage)
        if reference.kind == "bundled":
            return Path(bundled(str(reference)))
        return reference if reference.kind == "hub" else Path(reference.name).expanduser()

    def files(self, reference: ModelReference, owner: str = "") -> tuple[Path, ...]:
        """Files of a model: of one that this study trains, whether or not they are there yet; () of one on the hub."""
        folder = self.locate(reference, owner)
        if isinstance(folder, ModelReference):
            return ()
        if folder.is_relative_to(self.paths.root) and not folder.is_relative_to(ASSETS):
            return tuple(folder / name for name in MODEL_FILES)
        names = dict.fromkeys((*MODEL_FILES, *FOREIGN_FILES))
        return tuple(folder / name for name in names if (folder / name).is_file())

    def as_option(self, reference: ModelReference, owner: str = "") -> Path | ModelReference:
        """A model as commands are told of it: a bundled one by its name, so that no path of the package is in a parameter."""
        return reference if reference.kind == "bundled" else self.locate(reference, owner)

    def resolve(
        self, owner: str, sources: Inputs
    ) -> tuple[dict[str, tuple[Path, ...]], dict[str, Path | ModelReference]]:
        """Input files by role of what the experiment ``owner`` reads, and its models by role."""
        files: dict[str, tuple[Path, ...]] = {}
        models: dict[str, Path | ModelReference] = {}
        for role, source in sources.items():
            if isinstance(source, ModelReference):
                files[role] = self.files(source, owner)
                models[role] = self.as_option(source, owner)
                continue
            variants = source if isinstance(source, tuple) else (source,)
            files[role] = tuple(path for v in variants for path in self.paths.variant(v.section, v.name))
        return files, models

    def located(self, section: FeaturesConfig) -> FeaturesConfig:
        """The same options, with the folder of a model that this study trains in the place of its name."""
        reference = section.model()
        if reference is None or reference.kind != "trained":
            return section
        return section.model_copy(update={"encoder": str(self.locate(reference))})

    def encoder_files(self, section: FeaturesConfig) -> tuple[Path, ...]:
        """Configuration and weights of a local encoder, so that a change of them is seen; () of one on the hub."""
        reference = section.model()
        if reference is None or reference.kind == "hub":
            return ()
        if reference.kind == "trained":
            return self.files(reference)
        return encoder_folder_files(Path(bundled(str(reference))).expanduser())


def encoder_folder_files(folder: Path) -> tuple[Path, ...]:
    """Configuration and weights in a local folder; of a phone head, those of the encoder below it too."""
    patterns = ("*.json", "*.safetensors", "pytorch_model*.bin", "*.ckpt")
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    settings = folder / "config.json"
    if settings.is_file():
        below = json.loads(settings.read_text(encoding="utf-8")).get("encoder", "")
        if isinstance(below, str) and below:
            files += encoder_folder_files(Path(bundled(below)).expanduser())
    return tuple(files)
