"""A full disk was told in libsndfile's words ("System error"), counted as failed trials, and shown as a thread's traceback."""

from __future__ import annotations

import errno
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from bowerbird.artifacts.audio_files import write_audio
from bowerbird.audio import read_audio
from bowerbird.cli.__main__ import _thread_stopped
from bowerbird.config.sections.conversion import ConversionConfig
from bowerbird.config.systems.knnvc import KnnvcExperiment
from bowerbird.errors import explain_fault
from bowerbird.stages.conversion.trials import TrialConverter


def test_sound_that_does_not_fit_on_the_disk_is_an_error_that_names_itself(tmp_path: Path) -> None:
    import resource

    noise = np.random.default_rng(0).integers(-9000, 9000, 16000).astype(np.int16)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            write_audio(tmp_path / "a.flac", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert "larger than a file may be" in explain_fault(caught.value)
    assert list(tmp_path.iterdir()) == []
    write_audio(tmp_path / "a.flac", noise)
    assert np.array_equal(read_audio(tmp_path / "a.flac"), noise.astype(np.float32) / 32768)


class Broken:
    """Speech whose reading raises ``error``."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getitem__(self, utt_id: str):
        raise self.error


def test_a_fault_of_the_machine_is_not_a_failed_trial(tmp_path: Path) -> None:
    def convert(error: Exception) -> dict:
        converter = TrialConverter(None, KnnvcExperiment(), ConversionConfig(), Broken(error), tmp_path)
        return converter.run({"trial_id": "a", "source_utt": "b"}, "recipe")

    with pytest.raises(OSError, match="No space left"):
        convert(OSError(errno.ENOSPC, "No space left on device"))
    assert convert(ValueError("this trial"))["error"] == "ValueError: this trial"


def test_a_library_thread_stopped_by_a_full_disk_is_one_line(caplog, capsys) -> None:
    def stopped(error: Exception) -> None:
        thread = threading.Thread(name="writer")
        _thread_stopped(threading.ExceptHookArgs((type(error), error, None, thread)))

    stopped(OSError(errno.ENOSPC, "No space left on device"))
    assert "writer: no space left on the disk" in caplog.text
    assert "Traceback" not in capsys.readouterr().err
    stopped(ValueError("a mistake"))
    assert "ValueError: a mistake" in capsys.readouterr().err
