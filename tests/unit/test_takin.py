"""Takin-VC beside its paper: content, both timbre modules, the field, sizes, noise by item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tensors import millions, noise
from torch import Tensor, nn

from bowerbird.artifacts.files import write_json
from bowerbird.config.loading import parse_config
from bowerbird.config.systems.takin import ContentStage, FlowStage, TakinExperiment
from bowerbird.errors import BowerbirdError
from bowerbird.nn.timbre import ContextTimbre, TimbreMemory
from bowerbird.nn.unet import FiLM, UNet
from bowerbird.systems.base import Batch, StageInputs, Utterance
from bowerbird.systems.takin.network import Condition, HybridContent, Reference, Takin, item_generator, normalize
from bowerbird.systems.takin.system import TakinVC
from bowerbird.systems.takin.training import ContentTraining, FlowTraining, draw

SMALL = {
    "codes": 8,
    "code_dim": 6,
    "content_dim": 12,
    "context_layers": 1,
    "context_width": 16,
    "heads": 2,
    "memory_layers": 1,
    "memory_width": 8,
    "width": 16,
    "layers": 4,
    "blocks": 1,
}
AUXILIARY = {"mels": {"dim": 10}, "phones": {"dim": 5}, "speaker_embeddings": {"dim": 4}}


def stage(auxiliary: dict[str, Any] = AUXILIARY, **options: Any) -> FlowTraining:
    torch.manual_seed(0)
    return FlowTraining(FlowStage(**{**SMALL, **options}), StageInputs(7, auxiliary=auxiliary))


def batch(size: int = 3, frames: int = 11, prompt: int = 9, seed: int = 0) -> Batch:
    tensors = {
        "features": noise(size, frames, 7, seed=seed),
        "mels": noise(size, frames, 10, seed=seed + 1),
        "frames": torch.full((size,), frames),
        "phones": noise(size, frames, 5, seed=seed + 2),
        "prompt_mels": noise(size, prompt, 10, seed=seed + 3),
        "prompt_frames": torch.tensor([prompt, prompt - 3, prompt - 1])[:size],
        "speaker_embedding": noise(size, 4, seed=seed + 4),
        "uniform": torch.rand(size, generator=torch.Generator().manual_seed(seed + 5)),
    }
    return Batch(tuple(f"u{number}" for number in range(size)), tensors)


@pytest.mark.parametrize("fusion", ["product", "weighted_sum"])
def test_fusion_of_quantized_and_phonetic_features(fusion: str) -> None:
    torch.manual_seed(0)
    content = HybridContent(7, 12, 8, 1, 6, 12, fusion)
    features, phones = noise(2, 9, 7), noise(2, 9, 12, seed=1)
    content(features, phones)
    content.eval()
    fused, _ = content(features, phones)
    vectors = content.quantizer(content.inward(features)).vectors
    own = nn.functional.leaky_relu(content.project(vectors.transpose(1, 2)), 0.2).transpose(1, 2)
    expected = own * phones if fusion == "product" else 0.5 * own + 0.5 * phones
    assert torch.allclose(fused, expected, atol=1e-6)


def test_content_without_one_of_its_two_sources() -> None:
    torch.manual_seed(0)
    features, phones = noise(2, 9, 7), noise(2, 9, 5, seed=1)
    without_phones = HybridContent(7, 0, 8, 1, 6, 12)
    assert without_phones(features, None)[0].shape == (2, 9, 12)
    without_ssl = HybridContent(7, 5, 8, 1, 6, 12, ssl=False)
    content, commitment = without_ssl(features, phones)
    assert torch.equal(content, without_ssl(noise(2, 9, 7, seed=5), phones)[0])
    assert float(commitment) == 0


def test_shuffling_the_references_frames_changes_neither_memory_nor_context() -> None:
    torch.manual_seed(0)
    memory, context = TimbreMemory(80, 64, 4, 8).eval(), ContextTimbre(24, 80, 16, 64, 3, 8).eval()
    mels, mask = noise(2, 300, 80), torch.arange(300) < torch.tensor([[300], [180]])
    shuffled = mels.clone()
    for item, frames in enumerate((300, 180)):
        order = torch.randperm(frames, generator=torch.Generator().manual_seed(item))
        shuffled[item, :frames] = mels[item, order]
    assert not torch.allclose(mels, shuffled)
    assert torch.allclose(memory(mels, mask), memory(shuffled, mask), atol=1e-5)
    content, voice = noise(2, 20, 24, seed=2), noise(2, 16, seed=3)
    assert torch.allclose(context(content, mels, mask, voice), context(content, shuffled, mask, voice), atol=1e-5)


def test_padding_of_the_reference_is_not_read_speech_and_embedding_are() -> None:
    torch.manual_seed(0)
    memory, context = TimbreMemory(10, 8, 1, 2).eval(), ContextTimbre(6, 10, 4, 8, 1, 2).eval()
    mels, mask = noise(1, 12, 10), torch.arange(12)[None] < 7
    content, voice = noise(1, 5, 6), noise(1, 4)
    plain = memory(mels, mask), context(content, mels, mask, voice)
    padded = mels.clone()
    padded[:, 7:] = 50.0
    assert torch.allclose(memory(padded, mask), plain[0], atol=1e-5)
    assert torch.allclose(context(content, padded, mask, voice), plain[1], atol=1e-5)
    other = mels + (torch.arange(12) == 3)[None, :, None] * 3.0
    assert not torch.allclose(memory(other, mask), plain[0], atol=1e-3)
    assert not torch.allclose(context(content, other, mask, voice), plain[1], atol=1e-3)
    assert not torch.allclose(context(content, mels, mask, voice + 1), plain[1], atol=1e-3)


def test_film_scales_and_shifts_channels() -> None:
    film = FiLM(2, 3)
    with torch.no_grad():
        film.project.weight.zero_()
        film.project.bias.copy_(torch.tensor([1.0, 0.0, -1.0, 5.0, 6.0, 7.0]))
    x = noise(2, 3, 4)
    expected = torch.stack([2 * x[:, 0] + 5, x[:, 1] + 6, torch.full((2, 4), 7.0)], dim=1)
    assert torch.allclose(film(x, noise(2, 2)), expected)


@pytest.mark.parametrize("frames", [1, 7, 8, 13])
def test_the_field_takes_any_number_of_frames(frames: int) -> None:
    torch.manual_seed(0)
    field = UNet(10, 6, 4, 16, 6, 2)
    output = field(noise(2, frames, 10), torch.tensor([0.2, 0.9]), noise(2, frames, 6), noise(2, 4))
    assert output.shape == (2, frames, 10)
    with pytest.raises(ValueError, match="layers: 5: a U-Net has as many"):
        UNet(10, 6, 4, 16, 5, 2)


def test_gradient_reaches_every_parameter() -> None:
    training = stage(condition_dropout=0.0)
    training.losses("model", batch(), training.forward(batch()), 1)["total"].backward()
    for name, parameter in training.model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_an_item_alone_has_the_loss_it_has_in_a_batch() -> None:
    """Noise, t and condition dropout are the item's own."""
    training = stage()
    training.forward(batch())  # starts the codebook
    training.model.eval()
    whole = training.forward(batch())
    for item in range(3):
        alone = training.forward(batch()[item : item + 1])
        assert torch.allclose(alone.velocity[0], whole.velocity[item], atol=1e-5)
        assert torch.equal(alone.target[0], whole.target[item])
    ours, theirs = draw(["a", "b"], torch.zeros(2, 3)), draw(["b"], torch.zeros(1, 3))
    assert torch.equal(ours[0][1], theirs[0][0]) and not torch.equal(ours[0][0], theirs[0][0])


def test_a_dropped_condition_is_no_condition() -> None:
    training = stage()
    model = training.model.eval()
    some = batch()
    condition, _ = training.condition(some)
    nothing = condition.dropped(torch.tensor([True, False, True]))
    x, t = noise(3, 11, 10), torch.full((3,), 0.5)
    other = Condition(torch.zeros_like(condition.context), torch.zeros_like(condition.memory))
    expected = torch.stack([model(x, t, other)[0], model(x, t, condition)[1], model(x, t, other)[2]])
    assert torch.allclose(model(x, t, nothing), expected, atol=1e-6)


@pytest.mark.slow
def test_training_learns_one_item_by_heart() -> None:
    training = stage(condition_dropout=0.0, learning_rate=5e-3, lr_warmup=0, width=32)
    one, optimizer, losses = batch(1), training.optimizers["model"], []
    for step in range(150):
        uniform = torch.rand(1, generator=torch.Generator().manual_seed(step))
        moved = Batch(one.utt_ids, {**one.tensors, "uniform": uniform})
        optimizer.zero_grad()
        found = training.losses("model", moved, training.forward(moved), step)
        found["total"].backward()
        optimizer.step()
        losses.append(float(found["flow"].detach()))
    assert sum(losses[-20:]) / 20 < 0.5 * sum(losses[:5]) / 5, (losses[:5], losses[-5:])


@pytest.mark.parametrize(
    ("auxiliary", "options"),
    [
        ({**AUXILIARY, "speaker_embeddings": {}}, {}),
        ({**AUXILIARY, "phones": {}}, {}),
        (AUXILIARY, {"ssl": False}),
        (AUXILIARY, {"context_layers": 0}),
        (AUXILIARY, {"memory_layers": 0}),
    ],
    ids=["no speaker embedding", "no PPG", "no SSL", "no context", "no memory"],
)
def test_ablations_train(auxiliary: dict[str, Any], options: dict[str, Any]) -> None:
    given = {role: stats for role, stats in auxiliary.items() if stats}
    training = stage(given, condition_dropout=0.0, **options)
    loss = training.losses("model", batch(), training.forward(batch()), 1)["total"]
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in training.model.parameters())


def full(**options: Any) -> dict[str, Any]:
    stage_options = FlowStage(**options)
    return {**stage_options.model_dump(), "feature_dim": 1024, "phones_dim": 768, "bands": 80, "speaker_dim": 192}


def test_the_papers_sizes() -> None:
    """8200 codes of 1024; 6 layers of 8 heads, 1024; 4 blocks of memory; a U-Net of 10 layers, 3 blocks, 1280."""
    with torch.device("meta"):
        model = Takin(full())
        six = TimbreMemory(80, 512, 6, 8)
    assert model.content.quantizer.levels[0].centroids.shape == (8200, 1024)
    assert len(model.context.blocks) == 6 and len(model.memory.blocks) == 4 and len(six.blocks) == 6
    assert len(model.field.down) + len(model.field.up) == 10
    assert all(len(layer) == 3 for layer in (*model.field.down, *model.field.up))
    sizes = {name: millions(part) for name, part in model.named_children()}
    assert sizes == pytest.approx({"content": 3.41, "context": 76.65, "memory": 12.65, "field": 480.93}, abs=0.01)


@pytest.mark.slow
def test_full_width_gradients_reach_every_parameter() -> None:
    """The paper's widths; two layers of the U-Net's ten and one block of three, so that the test takes seconds."""
    torch.manual_seed(0)
    model = Takin(full(layers=2, blocks=1, context_layers=1, memory_layers=1, codes=64))
    features, phones, mels = noise(2, 8, 1024), noise(2, 8, 768, seed=1), noise(2, 12, 80, seed=2)
    reference = Reference(mels, torch.tensor([12, 9]), noise(2, 192, seed=3))
    condition, commitment = model.condition(features, phones, reference, 8)
    assert condition.context.shape == (2, 8, 1024) and condition.memory.shape == (2, 512)
    velocity = model(noise(2, 8, 80, seed=4), torch.tensor([0.1, 0.7]), condition)
    assert velocity.shape == (2, 8, 80)
    (velocity.square().mean() + commitment).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
def test_the_full_sizes_step() -> None:
    """All 574 M parameters: one step of a short item moves them all."""
    torch.manual_seed(0)
    inputs = StageInputs(
        1024, auxiliary={"mels": {"dim": 80}, "phones": {"dim": 768}, "speaker_embeddings": {"dim": 192}}
    )
    training = FlowTraining(FlowStage(condition_dropout=0.0), inputs)
    assert millions(training.model) == pytest.approx(573.6, abs=0.1)
    tensors = {
        "features": noise(1, 16, 1024),
        "mels": noise(1, 16, 80),
        "frames": torch.tensor([16]),
        "phones": noise(1, 16, 768),
        "prompt_mels": noise(1, 20, 80),
        "prompt_frames": torch.tensor([20]),
        "speaker_embedding": noise(1, 192),
        "uniform": torch.tensor([0.4]),
    }
    one = Batch(("u",), tensors)
    prediction = training.forward(one)
    assert prediction.velocity.shape == (1, 16, 80)
    training.losses("model", one, prediction, 1)["total"].backward()
    for name, parameter in training.model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


class Echo:
    """A vocoder that gives back what it reads."""

    device, input_dim, frame_rate = torch.device("cpu"), 80, 50.0

    def vocode(self, mels: Tensor) -> Tensor:
        return mels.flatten()


def system(**options: Any) -> TakinVC:
    torch.manual_seed(0)
    inputs = StageInputs(7, auxiliary={"mels": {"dim": 80}, "phones": {"dim": 5}})
    training = FlowTraining(FlowStage(**SMALL), inputs)
    return TakinVC(training.model, Echo(), None, TakinExperiment(**options))


def utterance(name: str, seconds: float = 1.0, seed: int = 0) -> Utterance:
    frames = int(50 * seconds)
    return Utterance(
        name, 0.1 * noise(320 * frames, seed=seed), noise(frames, 7, seed=seed), noise(frames - 1, 5, seed=seed)
    )


def test_noise_is_the_trials_own_and_a_seed_changes_it() -> None:
    source, voice = utterance("s"), [utterance("r", 2.0, seed=1)]
    trial = {"trial_id": "one"}
    with torch.no_grad():
        first, again = (system().convert(source, voice, trial).features for _ in range(2))
        other = system().convert(source, voice, {"trial_id": "two"}).features
        reseeded = system(seed=1).convert(source, voice, trial).features
    assert first.shape == (50, 80) and torch.equal(first, again)
    assert not torch.allclose(first, other) and not torch.allclose(first, reseeded)
    assert torch.equal(
        torch.randn(3, generator=item_generator(0, "one")), torch.randn(3, generator=item_generator(0, "one"))
    )


def test_only_the_first_seconds_of_the_reference_are_read() -> None:
    source, voice = utterance("s"), utterance("r", 4.0, seed=1)
    same = Utterance("r", torch.cat([voice.wave[: 2 * 16_000 - 352], noise(64_000, seed=5)]))
    with torch.no_grad():
        heard = [system(reference_s=1.9).convert(source, [one], {"trial_id": "t"}).features for one in (voice, same)]
        all_of_it = system(reference_s=3.9).convert(source, [voice], {"trial_id": "t"}).features
    assert torch.equal(*heard) and not torch.allclose(heard[0], all_of_it)


def test_more_sampling_steps_converge() -> None:
    source, voice = utterance("s"), [utterance("r", 2.0, seed=1)]

    def mel(steps: int) -> Tensor:
        return system(sampling_steps=steps, guidance=0.0).convert(source, voice, {"trial_id": "t"}).features

    with torch.no_grad():
        exact = mel(160)
        errors = [float((mel(steps) - exact).abs().mean()) for steps in (2, 5, 10, 20, 40)]
    assert errors == sorted(errors, reverse=True), errors


def test_mistakes_are_named(tmp_path: Path) -> None:
    source = utterance("s")
    with pytest.raises(BowerbirdError, match="s: has no phones; this Takin-VC needs them"):
        system().convert(Utterance("s", source.wave, source.features), [source])
    with pytest.raises(BowerbirdError, match="--models: Takin-VC needs flow=FOLDER"):
        TakinVC.load(TakinExperiment(), {}, torch.device("cpu"))
    content = HybridContent(7, 5, 8, 1, 6, 12, "weighted_sum")
    save_file(content.state_dict(), tmp_path / "model.safetensors")
    config = {"feature_dim": 7, "phones_dim": 5, "codes": 8, "levels": 1, "code_dim": 6, "content_dim": 12}
    write_json(tmp_path / "config.json", {**config, "fusion": "weighted_sum", "ssl": True})
    inputs = StageInputs(7, models={"content": tmp_path}, auxiliary=AUXILIARY)
    with pytest.raises(
        BowerbirdError, match=r"--models: content: .*: its fusion is 'weighted_sum', this stage's is 'product'"
    ):
        FlowTraining(FlowStage(**SMALL), inputs)
    taken = FlowTraining(FlowStage(**SMALL, fusion="weighted_sum"), inputs)
    assert torch.equal(taken.model.content.project.weight, content.project.weight)


def test_configurations_are_checked() -> None:
    study: dict[str, Any] = {"features": {"nano": {}, "mel": {"encoder": "log-mel", "layer": 0}}}

    def check(**experiment: Any) -> None:
        takin = {
            "system": "takin",
            "vocoder": "bundled:nano-vocoder",
            "phones": "",
            "speaker_embeddings": "",
            **experiment,
        }
        parse_config(study | {"experiments": {"t": takin}})

    check()
    for values, message in (
        ({"phones": "ppg"}, r"experiments.t.phones: 'ppg' is not defined in `features`"),
        ({"flow": {"heads": 5}}, r"flow.heads: 5: does not divide context_width = 1024"),
        ({"flow": {"prompt_min_s": 9}}, r"flow.prompt_max_s: 6: shorter than prompt_min_s = 9"),
        ({"flow": {"ssl": False}}, r"phones: empty: with ssl: false nothing is left"),
    ):
        with pytest.raises(BowerbirdError, match=message):
            check(**values)
    own: dict[str, Any] = {"recognizer": "trained", "phones": "ppg"}
    study["features"]["ppg"] = {"kind": "phonetic", "encoder": "trained:t", "layer": 0}
    check(**own)
    for values, message in (
        ({}, r"features.ppg.encoder: 't' trains no stage 'ppg'; give it recognizer: trained"),
        ({**own, "phones": ""}, r"recognizer: trained: phones is empty: name the features"),
        (
            {**own, "phones": "mel"},
            r"its phones are 'mel', of encoder log-mel; name features of kind phonetic and encoder trained:t",
        ),
        ({**own, "reuse": {"ppg": "nobody"}}, r"experiments.t.reuse.ppg: 'nobody' is not defined"),
        ({**own, "ppg": {"kernel": 4}}, r"ppg.kernel: 4: must be odd"),
    ):
        with pytest.raises(BowerbirdError, match=message):
            check(**values)
    assert TakinExperiment(recognizer="trained").stages == ("ppg", "content", "flow")
    assert TakinExperiment().stages == ("content", "flow") and TakinExperiment(content_training="joint").stages == (
        "flow",
    )
    assert "content" not in TakinExperiment(content_training="joint").training_inputs("flow")
    assert "content" in TakinExperiment().training_inputs("flow")


def test_content_training_reconstructs_through_content_and_speaker_embedding() -> None:
    torch.manual_seed(0)
    options = ContentStage(codes=8, code_dim=6, content_dim=12, generator="vocos-nano", adversarial_from=10)
    training = ContentTraining(options, StageInputs(7, auxiliary=AUXILIARY))
    tensors = {"features": noise(2, 12, 7), "audio": 0.1 * noise(2, 3840), "phones": noise(2, 12, 5)}
    item = Batch(("a", "b"), {**tensors, "speaker_embedding": noise(2, 4)})
    output = training.forward(item)
    losses = training.losses("generator", item, output, 1)
    assert {"mel", "stft", "commitment"} <= losses.keys()
    losses["total"].backward()
    for name in ("content", "speaker_projection", "generator"):
        for key, parameter in training.modules[name].named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, (name, key)
    moved = {id(p) for group in training.optimizers["generator"].param_groups for p in group["params"]}
    assert {id(p) for p in (*training.content.parameters(), *training.speaker_projection.parameters())} <= moved
    other = training.forward(Batch(("a", "b"), {**tensors, "speaker_embedding": item.speaker_embedding + 1}))
    assert not torch.allclose(other.wave, output.wave)
    assert torch.allclose(normalize(torch.full((1,), -5.5)), torch.zeros(1))
