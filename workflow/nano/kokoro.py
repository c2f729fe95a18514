"""English speech in many voices from Kokoro-82M: its alphabet, its styles, and the model.

Phonemes come from espeak-ng's IPA, mapped to Kokoro's symbols. A style is a vector of 256 dimensions: the first 128 are
timbre, the others prosody, so that both can be mixed separately. Playing speech faster or slower by `warp` moves pitch and
formants together.

Letters: ``N`` samples.
"""

from __future__ import annotations

import json
import subprocess
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

KOKORO_RATE = 24000  # Hz
STYLE_DIMS, TIMBRE_DIMS = 256, 128
BASE_VOICES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")

# espeak-ng's IPA (ties written ^) -> Kokoro's symbols, applied in order
FROM_ESPEAK = (
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
)


@dataclass(frozen=True)
class Voice:
    """Weights over `BASE_VOICES` (any sign, sum 1) for timbre and prosody; `warp` > 1 raises pitch and formants."""

    timbre: tuple[float, ...]
    prosody: tuple[float, ...]
    warp: float = 1.0
    speed: float = 1.0


def pronounce(text: str) -> str:
    """English text in Kokoro's symbols, as espeak-ng says it."""
    command = ["espeak-ng", "-v", "en-us", "-q", "--ipa", "--tie=^", text]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().replace("\n", ", ")
    for old, new in FROM_ESPEAK:
        symbols = symbols.replace(old, new)
    return symbols


def phonemize(text: str) -> str:
    """A sentence in Kokoro's symbols, with its sign for the flap of American English and a full stop."""
    return unicodedata.normalize("NFC", pronounce(text)).replace("ɾ", "T") + "."


def join_styles(timbre: np.ndarray, prosody: np.ndarray) -> np.ndarray:
    """A style ``(..., 256)`` with the timbre of one style and the prosody of another, both ``(..., 256)``."""
    return np.concatenate([timbre[..., :TIMBRE_DIMS], prosody[..., TIMBRE_DIMS:]], axis=-1)


class Kokoro:
    """The model in the folder that `prepare_kokoro.py` wrote: phonemes in, speech out."""

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
        self.styles = np.stack([packs[name].reshape(-1, STYLE_DIMS) for name in BASE_VOICES])  # (voices, lengths, 256)

    def speak(self, phonemes: str, voice: Voice, sample_rate: int = 16000) -> np.ndarray:
        """Speech ``(N,)`` float32 at ``sample_rate`` Hz that says ``phonemes`` in ``voice``."""
        symbols = [symbol for symbol in phonemes if symbol in self.vocab]
        tokens = np.array([[0, *(self.vocab[symbol] for symbol in symbols), 0]], dtype=np.int64)
        styles = self.styles[:, min(len(symbols), self.styles.shape[1]) - 1]
        style = join_styles(np.array(voice.timbre) @ styles, np.array(voice.prosody) @ styles)
        feeds = {
            "tokens": tokens,
            "style": style[None].astype(np.float32),
            "speed": np.array([voice.speed / voice.warp], dtype=np.float32),
        }
        audio = self.session.run(None, feeds)[0].reshape(-1).astype(np.float32)
        return soxr.resample(audio, KOKORO_RATE * voice.warp, sample_rate, quality="HQ")
