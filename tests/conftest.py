"""One torch thread, no network, and the fixtures several test files share."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def librispeech_mini() -> Path:
    """Folder of librispeech-mini; the test is skipped where it is absent."""
    folder = Path(os.environ.get("BOWERBIRD_LIBRISPEECH_MINI", REPOSITORY.parent / "shared/data/librispeech-mini"))
    if not folder.exists():
        pytest.skip("librispeech-mini is not here; set BOWERBIRD_LIBRISPEECH_MINI to its folder")
    return folder
