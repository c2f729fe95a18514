"""The phones that the encoder is taught (ARPAbet, and SIL for silence), and the symbols of IPA that stand for them."""

from __future__ import annotations

PHONES = (
    "SIL AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
)

# What Kokoro's alphabet and espeak-ng's have in common; each adds symbols of its own (`make_speech`, `make_robot_speech`).
IPA = {
    "ɑ": "AA",
    "æ": "AE",
    "ə": "AH",
    "ʌ": "AH",
    "ɔ": "AO",
    "b": "B",
    "d": "D",
    "ð": "DH",
    "ɛ": "EH",
    "ɜ": "ER",
    "f": "F",
    "ɡ": "G",
    "h": "HH",
    "ɪ": "IH",
    "ᵻ": "IH",
    "i": "IY",
    "k": "K",
    "l": "L",
    "m": "M",
    "n": "N",
    "ŋ": "NG",
    "p": "P",
    "ɹ": "R",
    "s": "S",
    "ʃ": "SH",
    "t": "T",
    "ɾ": "D",
    "ʔ": "T",
    "θ": "TH",
    "ʊ": "UH",
    "u": "UW",
    "v": "V",
    "w": "W",
    "j": "Y",
    "z": "Z",
    "ʒ": "ZH",
}
