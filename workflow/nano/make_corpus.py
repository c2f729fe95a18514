"""Make the demo corpus: four flite voices to test on, ten Kokoro voices to train and validate on.

    python workflow/nano/make_corpus.py --kokoro KOKORO_FOLDER --output src/bowerbird/assets/demo

Finished utterances are kept, so an interrupted run goes on where it stopped.

Letters: ``N`` samples.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from kokoro import Kokoro, Voice, phonemize
from sentences import PARALLEL, TEST, TRAIN
from tables import UTTERANCES, write_table
from torchaudio.functional import loudness

from bowerbird.audio import SAMPLE_RATE, read_audio

LOUDNESS_LUFS = -23.0
PEAK = 0.9
PAUSE_S = 0.15
PER_SPEAKER = {"train": 8, "valid": 5, "test": 12}
COLUMNS = ("utt_id", "speaker", "gender", "language", "session", "split", "path", "text")
FLITE = {"awb": "M", "kal16": "M", "rms": "M", "slt": "F"}


@dataclass(frozen=True)
class Speaker:
    """A Kokoro voice of the corpus; weights are over alpha, gongitsune, nezumi, tebukuro (F) and kumo (M), in that order."""

    name: str
    gender: str
    split: str
    voice: Voice


def speaker(name: str, gender: str, split: str, timbre: str, prosody: str, warp: float, speed: float = 1.0) -> Speaker:
    """A speaker from weights written as words: "0 0 0 0 1"."""
    weights = [tuple(float(weight) for weight in text.split()) for text in (timbre, prosody)]
    return Speaker(name, gender, split, Voice(weights[0], weights[1], warp, speed))


KOKORO = (
    speaker("alder", "M", "train", "0 0 0 0 1", "0 0 0 0 1", 1.0),
    speaker("birch", "F", "train", "1 0 0 0 0", "1 0 0 0 0", 1.0),
    speaker("cedar", "M", "train", "0 -.3 0 0 1.3", "0 0 0 0 1", 0.86, 1.05),
    speaker("dahlia", "F", "train", "0 1 0 0 0", "0 1 0 0 0", 0.95),
    speaker("elm", "M", "train", ".25 0 0 0 .75", "0 0 0 .4 .6", 1.12),
    speaker("fern", "F", "train", "0 0 1 0 0", "0 0 1 0 0", 1.0),
    speaker("hazel", "F", "train", "0 0 0 1 0", "0 0 0 1 0", 0.9),
    speaker("iris", "F", "train", "-.3 0 1.3 0 0", ".5 0 .5 0 0", 1.18),
    speaker("maple", "F", "valid", ".6 0 -.2 .6 0", "0 .5 0 .5 0", 0.84),
    speaker("oak", "M", "valid", "0 0 .3 0 .7", "0 .5 0 0 .5", 0.84),
)


def trim(audio: np.ndarray, level_db: float = -45.0) -> np.ndarray:
    """``(N,)`` with the silence at both ends (relative to the loudest 10 ms) cut down to `PAUSE_S`."""
    hop = SAMPLE_RATE // 100
    frames = audio[: len(audio) // hop * hop].reshape(-1, hop)
    power = (frames**2).mean(axis=1)
    active = np.flatnonzero(power > power.max() * 10 ** (level_db / 10)) * hop
    pause = int(PAUSE_S * SAMPLE_RATE)
    return audio[max(0, active[0] - pause) : active[-1] + hop + pause]


def normalize(audio: np.ndarray) -> np.ndarray:
    """``(N,)`` at a loudness of `LOUDNESS_LUFS` (ITU-R BS.1770); the peak stays below `PEAK`."""
    measured = float(loudness(torch.from_numpy(audio)[None], SAMPLE_RATE))
    gain = 10 ** ((LOUDNESS_LUFS - measured) / 20)
    return audio * min(gain, PEAK / float(np.abs(audio).max()))


def say_flite(text: str, voice: str) -> np.ndarray:
    """A sentence spoken by flite, ``(N,)`` float32 at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        return read_audio(path)


def choose_sentences(split: str, index: int) -> list[str]:
    """The sentences of speaker `index` of a split.

    Test speakers share the first `PARALLEL` sentences, and any two of them at most half of the others.
    """
    if split == "test":
        others = np.roll(np.array(TEST[PARALLEL:]), -4 * index)
        return TEST[:PARALLEL] + [str(text) for text in others[: PER_SPEAKER["test"] - PARALLEL]]
    order = np.random.default_rng([len(TRAIN), index]).permutation(len(TRAIN))
    return [TRAIN[number] for number in order[: PER_SPEAKER[split]]]


def write(path: Path, audio: np.ndarray) -> None:
    """Write ``(N,)`` as Ogg Vorbis."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS", compression_level=0.35) as file:
        file.write(audio)


def plan() -> list[tuple[dict[str, str], Voice | None]]:
    """Every row of `utterances.tsv` and its Kokoro voice (None: flite), the first utterance of each speaker first."""
    speakers = [(name, gender, "test", None) for name, gender in FLITE.items()]
    speakers += [(item.name, item.gender, item.split, item.voice) for item in KOKORO]
    rows = []
    for index, (name, gender, split, voice) in enumerate(speakers):
        for number, text in enumerate(choose_sentences(split, index), start=1):
            utterance = f"{name}_{number:03d}"
            path = f"{name}/{utterance}.ogg"
            values = (utterance, name, gender, "en", "1", split, path, text)
            rows.append((dict(zip(COLUMNS, values, strict=True)), voice))
    return sorted(rows, key=lambda item: (item[0]["utt_id"][-3:], item[0]["utt_id"]))


def main() -> None:
    """Make every utterance that is missing, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kokoro", type=Path, required=True, help="folder of prepare_kokoro.py")
    parser.add_argument("--output", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    model, rows = None, plan()
    for row, voice in rows:
        path = options.output / row["path"]
        if path.exists():
            continue
        if voice is None:
            audio = say_flite(row["text"], row["speaker"])
        else:
            model = model or Kokoro(options.kokoro, options.threads)
            audio = model.speak(phonemize(row["text"]), voice, SAMPLE_RATE)
        write(path, normalize(trim(audio)))
        print(row["utt_id"], row["text"], flush=True)
    table = sorted((tuple(row[column] for column in COLUMNS) for row, _ in rows), key=lambda values: values[0])
    write_table(options.output / UTTERANCES, COLUMNS, table)


if __name__ == "__main__":
    main()
