"""Files and folders of a corpus in an order that does not depend on the disk, and names that UTF-8 cannot hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bowerbird.audio import SUFFIXES
from bowerbird.config.messages import nearest
from bowerbird.config.sections.corpus import CorpusConfig
from bowerbird.errors import BowerbirdError


def printable_name(name: str) -> str:
    r"""A name as UTF-8 can hold it: bytes of a file name that are not UTF-8 become ``\xe9``."""
    return name_bytes(name).decode("utf-8", "backslashreplace")


def name_bytes(name: str | Path) -> bytes:
    """The bytes of a name on disk, by which names are sorted."""
    return str(name).encode("utf-8", "surrogateescape")


def read_text(file: Path) -> str:
    """A text file; an error where it cannot be read as UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BowerbirdError(f"{file}: not readable as UTF-8 text ({error}); convert it") from error


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, each with the names of its files.

    Links to folders are followed, but for one to a folder that the link itself lies in. Raises `BowerbirdError` where a folder
    cannot be listed.
    """

    def stop(error: OSError) -> None:
        raise BowerbirdError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    real = Path(os.path.realpath(folder))
    around = {str(folder): frozenset(map(str, (real, *real.parents)))}  # the real folders that a folder lies in
    for here, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        above = around.pop(here)
        places = {name: os.path.realpath(os.path.join(here, name)) for name in folders}
        folders[:] = [name for name in folders if places[name] not in above]
        around |= {os.path.join(here, name): above | {places[name]} for name in folders}
        yield Path(here), files


def folders_below(folder: Path) -> list[Path]:
    """A folder and all that are below it, in bytewise order; none where there is no such folder."""
    return sorted((here for here, _ in walk(folder)), key=name_bytes) if folder.is_dir() else []


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files below a folder whose names end in one of ``suffixes`` (in any case), in bytewise order of their paths."""
    if not folder.is_dir():
        return []
    found = (here / name for here, names in walk(folder) for name in names if name.lower().endswith(suffixes))
    return sorted(found, key=name_bytes)


def audio_below(folder: Path) -> list[Path]:
    """Audio files below a folder, in bytewise order of their paths."""
    return [path for path in files_below(folder, SUFFIXES) if path.suffix]


def subset_folders(root: Path, options: CorpusConfig) -> list[Path]:
    """The folders of the subsets that the options name, or the root itself; an error where one is not there."""
    for name in options.subsets:
        if not (root / name).is_dir():
            known = sorted(path.name for path in root.iterdir() if path.is_dir())
            raise BowerbirdError(f"corpus.subsets: {name!r} is not below {root}{nearest(name, known)}")
    return [root / name for name in options.subsets] or [root]
