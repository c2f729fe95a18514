"""What is logged while a stage trains: ``metrics.jsonl``, TensorBoard, and a progress bar or log lines."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from bowerbird.artifacts.files import write_text

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 30.0  # between log lines where there is no terminal


class MetricsLogger:
    """Metrics of one training. ``lines`` are those of ``metrics.jsonl``: what was computed, never when or how fast."""

    _file: TextIO
    _tensorboard: SummaryWriter
    _bar: Progress | None
    _task: TaskID

    def __init__(self, path: Path, tensorboard: Path, steps: int, log_every: int) -> None:
        """``path`` is the file that grows while training runs; ``tensorboard`` a folder. Nothing is written before `open`."""
        self.path, self.tensorboard_folder, self.steps, self.log_every = path, tensorboard, steps, log_every
        self.lines: list[str] = []
        self.is_open = False
        self._window: dict[str, list[float]] = {}  # values since the last line

    def open(self, step: int, state: Mapping[str, Any]) -> None:
        """Start after ``step``, with the ``state`` that a checkpoint kept ({} at the beginning)."""
        self.lines = list(state.get("lines", []))
        self._window = {name: list(values) for name, values in state.get("window", [])}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, "".join(f"{line}\n" for line in self.lines))
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._tensorboard = SummaryWriter(str(self.tensorboard_folder), purge_step=step + 1)
        self._first_step, self._started = step, time.monotonic()
        self._logged = self._started
        self.is_open = True
        self._bar = _progress_bar() if sys.stderr.isatty() else None
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task("train", total=self.steps, completed=step, losses="", rate="")

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"lines": self.lines, "window": [[name, values] for name, values in self._window.items()]}

    def step(self, step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        """Take losses of one step; every ``log_every`` steps their means since the last line are written."""
        for name, value in losses.items():
            self._window.setdefault(name, []).append(value)
        if step % self.log_every == 0:
            means = {name: math.fsum(values) / len(values) for name, values in self._window.items()}
            self._window = {}
            self._write(step, {**means, "learning_rate": learning_rate})
        self._show(step, losses)

    def validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write metrics of the validation after ``step``."""
        named = {f"valid/{name}": value for name, value in metrics.items()}
        self._write(step, named)
        logger.info("step %d: %s", step, _text(named))

    def audio(self, name: str, wave: Tensor, step: int, sample_rate: int) -> None:
        """Write a waveform ``(N,)`` to TensorBoard."""
        self._tensorboard.add_audio(name, wave.detach().cpu().clamp(-1, 1), step, sample_rate)

    def close(self) -> None:
        """Close all that `open` opened, if it did."""
        if not self.is_open:
            return
        if self._bar:
            self._bar.stop()
        self._file.close()
        self._tensorboard.close()

    def steps_per_second(self, step: int) -> float:
        """Mean rate since `open`."""
        return (step - self._first_step) / max(time.monotonic() - self._started, 1.0e-9)

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        line = json.dumps({"step": step, **{k: float(f"{v:.6g}") for k, v in values.items()}})
        self.lines.append(line)
        self._file.write(line + "\n")
        self._file.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)

    def _show(self, step: int, losses: Mapping[str, float]) -> None:
        rate, now = self.steps_per_second(step), time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=step, losses=_text(losses), rate=f"{rate:.2f} steps/s")
        elif now - self._logged >= LOG_INTERVAL_S or step == self.steps:
            self._logged = now
            left = (self.steps - step) / rate
            logger.info("step %d/%d: %s; %.2f steps/s, %s left", step, self.steps, _text(losses), rate, _duration(left))


def _progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    further = (TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[losses]}"))
    return Progress(*columns, *further, console=Console(stderr=True))


def _text(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds / 60) % 60, int(seconds / 3600)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {int(seconds) % 60:02d} s"
