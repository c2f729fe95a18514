"""Files that were cut short: what a header promises beside what is there. libsndfile reads a cut WAV or MP3 without error."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import soundfile

STREAMED = {0, 0x7FFFF000, 0xFFFFFFFF}  # data sizes of writers that could not go back (SoX: the second): no promise
MP3_SLACK = 2 * 1152  # two frames: encoders do not agree on whether a count includes their own frame and the delay
UNKNOWN = 2**36  # STREAMINFO counts samples in 36 bits; libsndfile gives more where it counts none


def promised_samples(path: Path, found: int) -> int:
    """Samples per channel that the header promises; ``found`` (those decoded) where it promises nothing else.

    WAV (RIFF, RIFX, RF64): the size of the data chunk. FLAC: the count in STREAMINFO. MP3: the count of a Xing or Info
    header, where there is one; without it the length follows from the size of the file. Other formats promise nothing.
    """
    with open(path, "rb") as handle:
        magic = handle.read(4)
    if magic in (b"RIFF", b"RIFX", b"RF64"):
        return _promised_wav(path, found)
    if magic == b"fLaC":
        frames = soundfile.info(path).frames
        return frames if found < frames < UNKNOWN else found
    if path.suffix.lower() == ".mp3" and _counts_frames(path):
        frames = soundfile.info(path).frames
        return frames if frames > found + MP3_SLACK else found
    return found


def _promised_wav(path: Path, found: int) -> int:
    """Samples per channel that the data chunk of a RIFF file should hold; chunks before it are skipped."""
    size_of_file = path.stat().st_size
    with open(path, "rb") as handle:
        order = ">" if handle.read(12)[:4] == b"RIFX" else "<"
        block, is_plain, long_size = 1, False, 0
        while len(header := handle.read(8)) == 8:
            name, size = header[:4], struct.unpack(f"{order}I", header[4:])[0]
            start = handle.tell()
            if name == b"ds64":
                long_size = struct.unpack("<8xQ", handle.read(16).ljust(16, b"\0"))[0]
            elif name == b"fmt ":
                _, channels, _, _, block, bits = struct.unpack(f"{order}HHIIHH", handle.read(16).ljust(16, b"\0"))
                is_plain = 0 < block == channels * bits // 8  # ADPCM and the like have many samples per block
            elif name == b"data":
                there = size_of_file - start
                size = (long_size or size) if size == 0xFFFFFFFF else size
                if size in STREAMED or size <= there:
                    return found
                return size // block if is_plain else found * size // max(there, 1)
            handle.seek(start + size + size % 2)
    return found


def _counts_frames(path: Path) -> bool:
    """Whether the first frame of an MP3 is a Xing or Info header with a count of frames."""
    with open(path, "rb") as handle:
        start = handle.read(10)
        if start[:3] == b"ID3":  # its size: four times seven bits
            handle.seek(10 + sum((byte & 127) << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True)))
            start = b""
        frame = start + handle.read(64)
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    return place >= 0 and len(frame) >= place + 8 and bool(frame[place + 7] & 1)


def cut_flac(path: Path) -> tuple[int, int] | None:
    """Samples promised and decoded of a FLAC whose end is missing; None where it is damaged otherwise.

    libFLAC finds the last sample of a file that is damaged before it, and none of a file that was cut.
    """
    promised = found = 0
    try:
        with soundfile.SoundFile(path) as handle:
            if handle.format != "FLAC" or not 0 < handle.frames < UNKNOWN:
                return None
            promised = handle.frames
            with contextlib.suppress(soundfile.LibsndfileError, RuntimeError):
                handle.seek(promised - 1)
                if len(handle.read(1)):
                    return None
        with soundfile.SoundFile(path) as handle:
            while len(block := handle.read(1024)):
                found += len(block)
    except (soundfile.LibsndfileError, RuntimeError):
        pass  # the end of what is there
    return (promised, found) if promised else None
