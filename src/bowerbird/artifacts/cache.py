"""Artifacts shared between studies: a folder (``BOWERBIRD_CACHE``) in which each lies under the hash of its identity.

An identity holds stage, version, parameters and digests of inputs, so what is found there is what the stage would make.
Files are copied in both directions (by reference, where the file system can): a study never depends on the store, and
either may be deleted. A copy is compared with its digest before it gets its name; entries are written whole or not at
all, so many machines may share a store.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from bowerbird.artifacts.files import atomic_path, file_sha256, seal_path, write_seal
from bowerbird.artifacts.identity import Identity, RunRecord
from bowerbird.errors import BowerbirdError

logger = logging.getLogger(__name__)

VARIABLE = "BOWERBIRD_CACHE"
_LIST = "sha256"  # of an entry: digests of its files, as sha256sum writes them


def fetch(identity: Identity, outputs: Sequence[Path], record: RunRecord) -> bool:
    """Put the artifacts of this identity at ``outputs``, with a run record beside the first; False if they are not known."""
    entry = _entry(identity)
    if entry is None or not (entry / _LIST).is_file():
        return False
    lines = (entry / _LIST).read_text(encoding="utf-8").splitlines()
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    names = [_name(path) for path in outputs]
    if not set(names) <= digests.keys():
        return False
    record.extra["fetched"] = str(entry)
    record.write(outputs[0], identity)
    for name, path in zip(names, outputs, strict=True):  # the index comes last, as when it is made
        with atomic_path(path) as temporary:
            try:
                shutil.copyfile(entry / name, temporary)
                sound = file_sha256(temporary) == digests[name]
            except OSError as error:
                logger.warning("%s: cannot be read (%s); made again", entry / name, error)
                temporary.touch()
                sound = False
            if not sound:
                logger.warning("%s: not what its digest says; made again", entry)
                shutil.rmtree(entry, ignore_errors=True)
                break
            if path.suffix != ".npy":  # its digest is in its index
                write_seal(path, {path.name: digests[name]})
    else:
        logger.info("%s: found in %s, not made again", outputs[0], entry)
        return True
    for path in outputs:
        path.unlink(missing_ok=True)
        seal_path(path).unlink(missing_ok=True)
    return False


def keep(identity: Identity, outputs: Sequence[Path]) -> None:
    """Copy finished artifacts to the store, if there is one. A store that cannot be written is a warning, not an error."""
    entry = _entry(identity)
    if entry is None or (entry / _LIST).is_file():
        return
    building = entry.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        building.mkdir(parents=True)
        lines = []
        for path in outputs:
            shutil.copyfile(path, building / _name(path))
            lines.append(f"{file_sha256(path)}  {_name(path)}\n")
        (building / _LIST).write_text("".join(lines), encoding="utf-8")
        os.replace(building, entry)
    except OSError as error:  # also: another job was first
        if not (entry / _LIST).is_file():
            logger.warning("%s: nothing kept in the store (%s)", entry, error)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _entry(identity: Identity) -> Path | None:
    """The folder of an identity in the store; None where no store is named."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return None
    root = Path(name)
    if not root.is_dir():
        raise BowerbirdError(
            f"{VARIABLE}={name}: no such folder; create it, on a file system that all nodes see, or unset it"
        )
    key = hashlib.sha256(identity.to_json().encode()).hexdigest()
    return root / identity.stage / key[:2] / key


def _name(path: Path) -> str:
    """What a file is called in the store: shards lose their number, which is not part of what they hold."""
    return path.name.split(".", 1)[1] if path.name.startswith("shard-") else path.name
