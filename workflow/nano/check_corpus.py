"""Check the demo corpus: are test sentences recognized, are speakers distinct, are levels even?

    python workflow/nano/check_corpus.py src/bowerbird/assets/demo

Recognition is closed-set: a grammar lists the test sentences, pocketsphinx chooses one. Speaker similarity is the cosine
of Resemblyzer embeddings (one a speaker half: even and odd utterances).
"""

import argparse
import csv
import importlib.util
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
from pocketsphinx import Decoder
from sentences import TEST, TRAIN
from torch import Tensor, nn
from torchaudio.functional import loudness

SAMPLE_RATE = 16000
Rows = list[dict[str, str]]


def words(text: str) -> str:
    """Lower-case words without punctuation."""
    return " ".join("".join(symbol for symbol in text.lower() if symbol.isalpha() or symbol in " '").split())


class Resemblyzer(nn.Module):
    """Speaker encoder of the `resemblyzer` package (GE2E), without its voice activity detector."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        package = importlib.util.find_spec("resemblyzer")
        weights = Path(package.submodule_search_locations[0]) / "pretrained.pt"
        state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({name: state[name] for name in self.state_dict()})

    @torch.inference_mode()
    def forward(self, audio: np.ndarray) -> Tensor:
        """Waveform (samples,) to a unit embedding (256,): mean over windows of 1.6 s, hop 0.8 s."""
        mel = librosa.feature.melspectrogram(y=audio, sr=SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=40).T
        mel = np.pad(mel, ((0, max(0, 160 - len(mel))), (0, 0)), mode="wrap").astype(np.float32)
        windows = np.stack([mel[start : start + 160] for start in range(0, len(mel) - 159, 80)])
        partial = torch.relu(self.linear(self.lstm(torch.from_numpy(windows))[1][0][-1]))
        return nn.functional.normalize(nn.functional.normalize(partial, dim=1).mean(dim=0), dim=0)


def recognizer(sentences: list[str]) -> Decoder:
    """A pocketsphinx decoder that can hear one of these sentences."""
    decoder = Decoder(lm=None, samprate=SAMPLE_RATE, loglevel="FATAL")
    missing = sorted({word for text in sentences for word in words(text).split() if not decoder.lookup_word(word)})
    if missing:
        raise SystemExit(f"not in the dictionary: {missing}")
    alternatives = " | ".join(words(text) for text in sentences)
    decoder.add_jsgf_string("demo", f"#JSGF V1.0; grammar demo; public <sentence> = {alternatives};")
    decoder.activate_search("demo")
    return decoder


def check_sentences(rows: Rows, corpus: Path, sentences: list[str]) -> None:
    """Print, a speaker, how many utterances are recognized as their own sentence."""
    decoder = recognizer(sentences)
    for name in sorted({row["speaker"] for row in rows}):
        own = [row for row in rows if row["speaker"] == name]
        wrong = []
        for row in own:
            audio, _ = soundfile.read(corpus / row["path"], dtype="int16")
            decoder.start_utt()
            decoder.process_raw(audio.tobytes(), full_utt=True)
            decoder.end_utt()
            heard = decoder.hyp().hypstr if decoder.hyp() else ""
            if heard != words(row["text"]):
                wrong.append(f"{row['utt_id']} heard as: {heard!r}")
        print(f"recognized {name:8s} {len(own) - len(wrong):2d}/{len(own)}", *wrong, sep="\n  " if wrong else " ")


def check_speakers(rows: Rows, corpus: Path) -> None:
    """Print the similarity of each speaker's two halves and of its nearest other speaker; print levels."""
    encoder = Resemblyzer().eval()
    names = sorted({row["speaker"] for row in rows})
    halves, levels, peaks, seconds = [], [], [], []
    for name in names:
        embeddings = []
        for row in (row for row in rows if row["speaker"] == name):
            audio, _ = soundfile.read(corpus / row["path"], dtype="float32")
            embeddings.append(encoder(audio))
            levels.append(float(loudness(torch.from_numpy(audio)[None], SAMPLE_RATE)))
            peaks.append(float(np.abs(audio).max()))
            seconds.append(len(audio) / SAMPLE_RATE)
        stacked = torch.stack(embeddings)
        halves.append(torch.stack([nn.functional.normalize(stacked[half::2].mean(0), dim=0) for half in (0, 1)]))
    first, second = torch.stack(halves).unbind(1)
    similarity = (first @ second.T + second @ first.T) / 2
    for index, name in enumerate(names):
        others = similarity[index].clone()
        others[index] = -1
        nearest = int(others.argmax())
        print(
            f"speaker {name:8s} same {similarity[index, index]:.2f}  nearest {others[nearest]:.2f} ({names[nearest]})"
        )
    print(f"utterances {len(seconds)}, {sum(seconds):.0f} s, {min(seconds):.1f} to {max(seconds):.1f} s each")
    print(f"loudness {min(levels):.1f} to {max(levels):.1f} LUFS, highest peak {max(peaks):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder with utterances.tsv")
    root = parser.parse_args().corpus
    torch.set_num_threads(1)
    with open(root / "utterances.tsv", encoding="utf-8", newline="") as file:
        table = [row for row in csv.DictReader(file, delimiter="\t") if (root / row["path"]).exists()]
    check_sentences([row for row in table if row["split"] == "test"], root, TEST)
    check_sentences([row for row in table if row["split"] != "test"], root, TRAIN)
    check_speakers(table, root)
