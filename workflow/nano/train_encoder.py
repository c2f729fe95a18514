"""Train the bundled nano encoder: a small WavLM, supervised by phones.

kNN-VC needs two things of one layer L: nearest neighbors by cosine must be of the same phone *across speakers*, and the layer must
still hold what a vocoder needs. So layer L is trained with four losses (the top layer with the first alone):

* cross-entropy of the phone of each frame (a linear head: it becomes the bundled phonetic posteriors);
* supervised contrastive loss between frames of one phone and the same third of it: it shapes the cosine geometry;
* L1 between a linear read-out and the log-mel spectrogram, and cross-entropy of the pitch: timbre, detail and intonation
  survive, in directions of small variance.

Speech is a folder that `labeled_speech.py` describes; `make_speech.py` and `make_robot_speech.py` write such folders of synthetic speech
with exact times, `label_speech.py` of real speech with the times of pocketsphinx. A folder named twice has twice the share of each batch.

    python workflow/nano/train_encoder.py --speech SYNTHETIC REAL --output src/bowerbird/assets --minutes 40

Letters: ``B`` batch, ``N`` samples, ``T`` frames of 20 ms, ``D`` dimensions of the hidden states.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from encoder_batches import Utterance, draw_batch, load_speech
from phones import PHONES
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import WavLMConfig, WavLMModel

from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.nn.sourcefilter import HIGHEST_HZ, LOWEST_HZ, PITCHES

LAYER = 3
CONFIG = WavLMConfig(
    vocab_size=len(PHONES),
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=768,
    conv_dim=(400, 256, 192),  # the first convolution starts as a filter bank: see `start_as_filter_bank`
    conv_stride=(320, 1, 1),
    conv_kernel=(400, 1, 1),
    conv_bias=True,
    feat_extract_norm="layer",
    do_stable_layer_norm=False,
    num_conv_pos_embeddings=31,
    num_conv_pos_embedding_groups=8,
    num_buckets=80,
    max_bucket_distance=200,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    feat_proj_dropout=0.0,
    layerdrop=0.0,
    apply_spec_augment=False,
    mask_time_prob=0.0,
)


def start_as_filter_bank(encoder: WavLMModel, bands: int = 96) -> None:
    """Set the waveform's convolutions to a mel filter bank; training goes on from there, as with all weights.

    The first convolution (25 ms every 20 ms) holds each band's windowed sinusoid in four phases, so that the sum of the
    rectified four is nearly its magnitude; high bands are stronger, as pre-emphasis would make them. Channels of a constant stand beside
    them: the layer norm that follows divides them by the frame's level, which tells later layers the level. The second
    convolution starts as the sum of the four phases.
    """
    first, second = (encoder.feature_extractor.conv_layers[n] for n in (0, 1))
    width = CONFIG.conv_kernel[0]
    mel = torch.linspace(math.log1p(60 / 700), math.log1p(7600 / 700), bands)
    hertz = 700 * torch.expm1(mel)
    time_s = (torch.arange(width) - (width - 1) / 2) / SAMPLE_RATE
    spacing = torch.gradient(hertz)[0]
    window = torch.exp(-0.5 * (time_s[None] * spacing[:, None] * 3.0) ** 2) * torch.hann_window(width)[None]
    phases = torch.arange(4) * math.pi / 2
    filters = torch.cos(2 * math.pi * hertz[:, None, None] * time_s + phases[:, None]) * window[:, None]
    filters = filters / window.sum(1)[:, None, None] * (1 + hertz / 500)[:, None, None]
    levels = torch.logspace(-3.5, -0.5, (CONFIG.conv_dim[0] - 4 * bands) // 2)
    with torch.no_grad():
        first.conv.weight.zero_()
        first.conv.weight[: 4 * bands, 0] = filters.reshape(4 * bands, width)
        first.conv.bias.zero_()
        first.conv.bias[4 * bands :] = torch.stack([levels, -levels], dim=1).reshape(-1)
        first.layer_norm.weight.fill_(3.0)
        second.conv.weight[:bands, :, 0] *= 0.1
        for phase in range(4):
            second.conv.weight[torch.arange(bands), torch.arange(bands) * 4 + phase, 0] = 0.5


def regularize(rate: float) -> None:
    """Set dropout everywhere, and masks over a tenth of the frames and of the dimensions, against overfitting an hour of speech."""
    for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"):
        setattr(CONFIG, name, rate)
    CONFIG.apply_spec_augment = True
    CONFIG.mask_time_prob, CONFIG.mask_time_length = 0.1, 5
    CONFIG.mask_feature_prob, CONFIG.mask_feature_length, CONFIG.mask_feature_min_masks = 0.1, 16, 0


class TaughtEncoder(nn.Module):
    """The encoder with the heads that train it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = WavLMModel(CONFIG)
        start_as_filter_bank(self.encoder)
        self.phones = nn.Linear(CONFIG.hidden_size, len(PHONES))  # on layer L: the bundled phonetic head
        self.top = nn.Linear(CONFIG.hidden_size, len(PHONES))
        self.mel = nn.Linear(CONFIG.hidden_size, 80)
        self.pitch = nn.Linear(CONFIG.hidden_size, PITCHES + 1)
        self.spectrogram = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE, 1024, 1024, HOP, 0, 8000, n_mels=80, center=False
        )

    def log_mel(self, wave: Tensor) -> Tensor:
        """``(B, N)`` to normalized log-mel spectra ``(B, T, 80)``, centered as the encoder's frames are."""
        padded = F.pad(wave, (312, 1024))
        mel = self.spectrogram(padded).clamp_min(1e-5).log().transpose(1, 2)
        return (mel[:, : (wave.shape[1] - 80) // HOP] + 4.0) / 2.5

    def losses(self, noisy: Tensor, clean: Tensor, labels: Tensor, pitch: Tensor) -> dict[str, Tensor]:
        """The losses of a batch by name: waves ``(B, N)``, labels ``(B, T, 2)``, pitch ``(B, T)`` in Hz, 0 where unvoiced."""
        states = self.encoder(noisy, output_hidden_states=True).hidden_states
        layer, top = states[LAYER], states[-1]
        phone = labels[..., 0]
        return {
            "phone_top": F.cross_entropy(self.top(top).transpose(1, 2), phone, ignore_index=-1, label_smoothing=0.05),
            "phone": F.cross_entropy(self.phones(layer).transpose(1, 2), phone, ignore_index=-1, label_smoothing=0.05),
            "contrast": contrastive_loss(layer, labels),
            "mel": F.l1_loss(self.mel(layer), self.log_mel(clean)),
            "pitch": pitch_loss(self.pitch(layer), pitch),
        }


def pitch_loss(logits: Tensor, hertz: Tensor) -> Tensor:
    """Cross-entropy of the pitch's class where voiced (labels are a class wide), plus that of voicing (the last logit).

    ``logits`` (B, T, PITCHES + 1), ``hertz`` (B, T), 0 where unvoiced.
    """
    place = (PITCHES - 1) * (hertz.clamp_min(1.0) / LOWEST_HZ).log2() / math.log2(HIGHEST_HZ / LOWEST_HZ)
    target = (-0.5 * (torch.arange(PITCHES) - place[..., None]).square()).softmax(-1)
    entropy = -(target * logits[..., :-1].log_softmax(-1)).sum(-1)
    voiced = (hertz > 0).float()
    return (entropy * voiced).mean() + F.binary_cross_entropy_with_logits(logits[..., -1], voiced)


def contrastive_loss(features: Tensor, labels: Tensor, temperature: float = 0.1, most: int = 1024) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020): positives share phone and third and come from another crop.

    ``features`` (B, T, D), ``labels`` (B, T, 2); at most ``most`` frames are compared, drawn at random.
    """
    batch, frames, _ = features.shape
    item = torch.arange(batch)[:, None].expand(batch, frames).reshape(-1)
    key = (labels[..., 0] * 3 + labels[..., 1]).reshape(-1)
    chosen = torch.nonzero(labels[..., 0].reshape(-1) > 0).squeeze(1)
    chosen = chosen[torch.randperm(len(chosen))[:most]]
    unit = F.normalize(features.reshape(batch * frames, -1)[chosen], dim=-1)
    similarity = unit @ unit.T / temperature
    other = item[chosen][:, None] != item[chosen][None]
    positive = (key[chosen][:, None] == key[chosen][None]) & other
    similarity = similarity.masked_fill(~other, -1e4)
    log_prob = similarity - similarity.logsumexp(dim=1, keepdim=True)
    has = positive.any(dim=1)
    return -((log_prob * positive).sum(1)[has] / positive.sum(1)[has]).mean()


WEIGHTS = {"phone_top": 0.5, "phone": 1.0, "contrast": 2.0, "mel": 4.0, "pitch": 0.4}


def start_from(model: TaughtEncoder, assets: Path) -> None:
    """Take the weights of ``nano-encoder`` and ``nano-phones`` in ``assets``; the heads that were not exported start anew."""
    weights = {name: value.float() for name, value in load_file(assets / "nano-encoder" / "model.safetensors").items()}
    model.encoder.load_state_dict(weights)
    model.phones.load_state_dict(load_file(assets / "nano-phones" / "model.safetensors"))


def export(model: TaughtEncoder, assets: Path, facts: dict[str, int]) -> None:
    """Write ``nano-encoder`` (a transformers folder, float16) and ``nano-phones`` (the head on layer L) into ``assets``."""
    folder = assets / "nano-encoder"
    folder.mkdir(parents=True, exist_ok=True)
    config = WavLMConfig.from_dict({**CONFIG.to_dict(), "dtype": "float16", "architectures": ["WavLMModel"]})
    config.save_pretrained(folder)
    weights = {k: v.half().contiguous() for k, v in model.encoder.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt", **{k: str(v) for k, v in facts.items()}})
    folder = assets / "nano-phones"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {"weight": model.phones.weight.detach().clone(), "bias": model.phones.bias.detach().clone()},
        folder / "model.safetensors",
    )
    head = {"encoder": "bundled:nano-encoder", "layer": LAYER, "phones": PHONES}
    (folder / "config.json").write_text(json.dumps(head, indent=2) + "\n")


class Progress:
    """How far training is, by steps or by minutes, whichever ends first; and what it prints of the losses."""

    def __init__(self, steps: int, minutes: float) -> None:
        self.steps, self.minutes = steps, minutes
        self.begun = time.time()
        self.means = dict.fromkeys(WEIGHTS, 0.0)  # running means of the losses

    @property
    def minutes_spent(self) -> float:
        """Minutes since the start."""
        return (time.time() - self.begun) / 60

    def share(self, step: int) -> float:
        """Share of the training that is done before ``step`` (from 0): 1 ends it."""
        return max(step / self.steps, self.minutes_spent / self.minutes)

    def log(self, step: int, rate: float, losses: dict[str, Tensor], pools: list[list[Utterance]]) -> None:
        """Take the losses of a step into their running means, and print these every 25 steps."""
        for name, value in losses.items():
            self.means[name] += (float(value.detach()) - self.means[name]) * (0.05 if step > 20 else 0.5)
        if step % 25 == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in self.means.items())
            sizes = [len(pool) for pool in pools]
            print(f"step {step} {self.minutes_spent:.1f} min lr {rate:.2e} {shown} speech {sizes}", flush=True)


def train(model: TaughtEncoder, options: argparse.Namespace) -> tuple[int, float]:
    """Train as the options say; returns the number of steps and the minutes."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    speech: list[dict[str, Utterance]] = [{} for _ in options.speech]
    progress, done = Progress(options.steps, options.minutes), 0
    for step in range(options.steps):
        if step % 100 == 0:
            for folder, known in zip(options.speech, speech, strict=True):
                load_speech(folder, known)
            pools = [list(known.values()) for known in speech if known]
        share = progress.share(step)
        if share >= 1:
            break
        rate = options.learning_rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = draw_batch(pools, options.batch_size, options.seconds, np.random.default_rng([options.seed, step]))
        losses = model.losses(*batch)
        optimizer.zero_grad(set_to_none=True)
        sum(WEIGHTS[name] * value for name, value in losses.items()).backward()  # type: ignore[union-attr]  # never empty
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done = step + 1
        progress.log(step, rate, losses, pools)
        if step % 200 == 199:
            save_file(model.state_dict(), options.checkpoint)
    save_file(model.state_dict(), options.checkpoint)
    return done, progress.minutes_spent


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="folders of labeled speech")
    parser.add_argument("--output", type=Path, required=True, help="folder that gets nano-encoder/ and nano-phones/")
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("nano-encoder.safetensors"), help="weights to go on from, if there"
    )
    parser.add_argument("--start-from", type=Path, help="folder with nano-encoder/ and nano-phones/ to train on")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="the schedule ends at this wall time, if steps do not first"
    )
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a crop")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--dropout", type=float, default=0.0, help="above 0: dropout at this rate, and masks")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Build the model, train it, and export encoder and head."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if options.dropout:
        regularize(options.dropout)
    model = TaughtEncoder().train()
    if options.checkpoint.exists():
        model.load_state_dict(load_file(options.checkpoint), strict=False)
        print(f"weights of {options.checkpoint}", flush=True)
    elif options.start_from:
        start_from(model, options.start_from)
        print(f"weights of {options.start_from}", flush=True)
    parameters = sum(p.numel() for p in model.encoder.parameters())
    steps, minutes = train(model, options)
    export(model, options.output, {"steps": steps, "parameters": parameters, "layer": LAYER, "seed": options.seed})
    print(f"exported {parameters / 1e6:.2f} M parameters after {steps} steps, {minutes:.1f} min")


if __name__ == "__main__":
    main()
