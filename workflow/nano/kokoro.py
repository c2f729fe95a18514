"""English speech in many voices from Kokoro-82M.

Phonemes come from espeak-ng's IPA, mapped to Kokoro's symbols. A voice is a mixture of the model's style vectors
(timbre and prosody mixed separately), played back faster or slower by `warp`, which moves pitch and formants together.
"""

import json
import subprocess
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

SAMPLE_RATE = 24000
TIMBRE_DIMS = 128
BASE_VOICES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")

IPA_TO_KOKORO = (
    ("ʔˌn̩", "tn"),
    ("ʔn̩", "tn"),
    ("n̩", "ᵊn"),
    ("l̩", "ᵊl"),
    ("ʔ", "t"),
    ("aɪ", "I"),
    ("aʊ", "W"),
    ("dʒ", "ʤ"),
    ("eɪ", "A"),
    ("tʃ", "ʧ"),
    ("ɔɪ", "Y"),
    ("oʊ", "O"),
    ("əl", "ᵊl"),
    ("ɜːɹ", "ɜɹ"),
    ("ɜː", "ɜɹ"),
    ("ɚ", "əɹ"),
    ("ɾ", "T"),
    ("iə", "iə"),
    ("ɪə", "iə"),
    ("e", "A"),
    ("o", "ɔ"),
    ("r", "ɹ"),
    ("x", "k"),
    ("ç", "k"),
    ("ɐ", "ə"),
    ("ɬ", "l"),
    ("ʲ", ""),
    ("ː", ""),
    ("g", "ɡ"),
)
"""espeak-ng's American English IPA to the symbols that Kokoro was trained with, longest first."""


@dataclass(frozen=True)
class Voice:
    """Weights over `BASE_VOICES` (any sign, sum 1) for timbre and prosody; `warp` > 1 raises pitch and formants."""

    timbre: tuple[float, ...]
    prosody: tuple[float, ...]
    warp: float = 1.0
    speed: float = 1.0


def phonemize(texts: list[str]) -> list[str]:
    """English texts (one sentence each) to Kokoro phoneme strings."""
    command = ["espeak-ng", "-q", "--ipa", "-v", "en-us"]
    strings = []
    for text in texts:
        ipa = subprocess.run([*command, text], capture_output=True, text=True, check=True).stdout
        ipa = unicodedata.normalize("NFC", ", ".join(line.strip() for line in ipa.strip().splitlines()))
        for source, target in IPA_TO_KOKORO:
            ipa = ipa.replace(source, target)
        strings.append(ipa + ".")
    return strings


class Kokoro:
    """The model of `prepare_kokoro.py`, as text or phonemes to `Speech`."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are shared
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self.vocab: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        packs = np.load(folder / "voices.npz", allow_pickle=False)
        self.styles = np.stack([packs[name].reshape(-1, 256) for name in BASE_VOICES])  # (voices, lengths, 256)

    def speak(self, phonemes: str, voice: Voice, sample_rate: int = 16000) -> np.ndarray:
        """Synthesise a phoneme string in `voice`: a waveform (samples,) float32."""
        symbols = [symbol for symbol in phonemes if symbol in self.vocab]
        tokens = np.array([[0, *(self.vocab[symbol] for symbol in symbols), 0]], dtype=np.int64)
        styles = self.styles[:, min(len(symbols), self.styles.shape[1]) - 1]
        style = np.concatenate(
            [np.array(voice.timbre) @ styles[:, :TIMBRE_DIMS], np.array(voice.prosody) @ styles[:, TIMBRE_DIMS:]]
        )
        feeds = {
            "tokens": tokens,
            "style": style[None].astype(np.float32),
            "speed": np.array([voice.speed / voice.warp], dtype=np.float32),
        }
        audio = self.session.run(None, feeds)[0].reshape(-1).astype(np.float32)
        return soxr.resample(audio, SAMPLE_RATE * voice.warp, sample_rate, quality="HQ")
