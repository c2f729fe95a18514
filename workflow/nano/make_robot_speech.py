"""Make formant-synthesized English in many voices, with exact phone times: espeak-ng, through its C library.

It is cheap (hundreds of times faster than real time) and unlike any recorded voice: it widens the training speech of the encoder,
beside `make_speech.py` and real speech. A voice is one of espeak-ng's variants with a random pitch, range and rate; each voice says
two sentences.

Needs the shared library libespeak-ng.

    python workflow/nano/make_robot_speech.py --sentences 400 --output robots

The output folder is what `labeled_speech.py` describes.

Letters: ``N`` samples.
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import numpy as np
import soundfile
import soxr
from labeled_speech import list_labels, write_label
from phones import IPA
from sentences import training_sentence

from bowerbird.audio import SAMPLE_RATE, int16_to_float

VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 klatt klatt2 klatt3 klatt4 Alex Alicia Andrea Andy Annie Denis Diogo Gene Henrique Hugo Jacky "
    "Lee Marco Mario Michael Mike adam anika antonio belinda benjamin boris caleb david ed edward grandma grandpa gustave iven john linda "
    "marcelo max michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph travis victor zac".split()
)
SYNCHRONOUS, PHONEME_EVENTS_IPA, PHONEME, UTF8 = 2, 1 | 2, 7, 1
RATE_PARAMETER, PITCH_PARAMETER, RANGE_PARAMETER = 1, 3, 4
# espeak-ng's IPA -> ARPAbet; a mark of length or stress is dropped first
PHONE = {
    **IPA,
    "ɒ": "AA",
    "a": "AE",
    "ɐ": "AH",
    "əl": "L",
    "aʊ": "AW",
    "aɪ": "AY",
    "tʃ": "CH",
    "e": "EH",
    "ɚ": "ER",
    "ɝ": "ER",
    "eɪ": "EY",
    "dʒ": "JH",
    "ɫ": "L",
    "oʊ": "OW",
    "əʊ": "OW",
    "o": "OW",
    "ɔɪ": "OY",
    "r": "R",
    "_": "SIL",
    "": "SIL",
}


class Event(ctypes.Structure):
    """``espeak_EVENT`` of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class Synthesizer:
    """espeak-ng in this process: text in, samples and the times of its phones out."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS_IPA)
        if self.rate <= 0:
            raise RuntimeError("libespeak-ng does not start; is its data (espeak-ng-data) installed?")
        self._callback = CALLBACK(self._receive)
        self.library.espeak_SetSynthCallback(self._callback)
        self._samples: list[np.ndarray] = []
        self._phones: list[tuple[str, float]] = []

    def _receive(self, samples, count: int, events) -> int:
        if samples and count:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        number = 0
        while events[number].type != 0:
            if events[number].type == PHONEME:
                symbol = events[number].string.decode("utf-8", "ignore")
                self._phones.append((symbol, events[number].audio_position / 1000))
            number += 1
        return 0

    def speak(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int) -> tuple[np.ndarray, list]:
        """Speech ``(N,)`` int16 at ``self.rate`` Hz, and ``[(espeak's phone, start in seconds), ...]``."""
        self._samples, self._phones = [], []
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((RATE_PARAMETER, rate), (PITCH_PARAMETER, pitch), (RANGE_PARAMETER, pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        self.library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, UTF8, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self._samples), self._phones


def phone_times(phones: list[tuple[str, float]], end_s: float) -> list[tuple[str, float, float]]:
    """Phones with start and end in seconds, in ARPAbet; what has no counterpart there becomes "?"."""
    times = []
    for (symbol, start), (_, stop) in zip(phones, [*phones[1:], ("", end_s)], strict=True):
        if stop > start:
            plain = symbol.translate(str.maketrans("", "", "ː ˈˌ\u0329\u0303ʲ"))
            times.append((PHONE.get(plain, "?"), round(start, 3), round(stop, 3)))
    return times


def main() -> None:
    """Make all sentences, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=400)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    synthesizer = Synthesizer()
    for number in range(options.sentences):
        voice_rng, rng = np.random.default_rng([9, number // 2]), np.random.default_rng([10, number])
        voice = f"en-us+{voice_rng.choice(VARIANTS)}"
        prosody = (int(voice_rng.integers(120, 200)), int(voice_rng.integers(20, 85)), int(voice_rng.integers(20, 80)))
        text = training_sentence(rng)
        samples, phones = synthesizer.speak(text, voice, *prosody)
        wave = soxr.resample(int16_to_float(samples), synthesizer.rate, SAMPLE_RATE)
        label = options.output / f"r{number:05d}.json"
        soundfile.write(label.with_suffix(".flac"), wave * (0.5 / np.abs(wave).max()), SAMPLE_RATE)
        write_label(label, text, phone_times(phones, len(wave) / SAMPLE_RATE), voice)
    print(f"{list_labels(options.output)} sentences in {options.output}")


if __name__ == "__main__":
    main()
