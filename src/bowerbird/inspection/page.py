"""A portrait as a folder with a page: pictures, and players for hub frames and for the neighbours of a frame.

The page takes style, players and pictures from the report, and like it loads nothing from elsewhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from markupsafe import Markup

from bowerbird.artifacts.audio_files import write_audio
from bowerbird.artifacts.files import write_text
from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.errors import BowerbirdError
from bowerbird.inspection.diagnostics import Portrait
from bowerbird.inspection.kinship import Kinship
from bowerbird.inspection.statistics import Neighbour
from bowerbird.stages.report.figures import STYLE, Picture, _inline
from bowerbird.stages.report.formats import FILTERS
from bowerbird.stages.report.players import _Desk
from bowerbird.stages.report.run import Run

AROUND_S = 0.5  # speech before and after a frame


MARKER = "files of `bowerbird show --output`; they are replaced when it is written again\n"


_HERE = Path(__file__).parent


_REPORT = Path(__file__).parents[1] / "stages" / "report"


@dataclass(frozen=True)
class Excerpt:
    """A frame on the page: a second of speech around it, and where in it (percent) the frame lies."""

    utt_id: str
    frame: int
    speaker: str
    cosine: float | None
    times: int
    audio: str = ""
    picture: str = ""
    seconds: float = 0.0
    left: float = 0.0
    width: float = 0.0


def write_gallery(kinship: Kinship, portrait: Portrait, story: Sequence[tuple[str, str]], output: Path) -> Path:
    """Write ``output``/index.html and the folder assets/ beside it; returns the page."""
    assert kinship.config is not None
    assets = output / "assets"
    readme = assets / "README.txt"
    if assets.exists() and not (readme.is_file() and readme.read_text(encoding="utf-8") == MARKER):
        raise BowerbirdError(f"{assets}: is there and is not of `bowerbird show`; name another --output")
    output.mkdir(parents=True, exist_ok=True)
    building = output / f".tmp-{os.getpid()}-assets"
    try:
        for name in ("audio", "pictures"):
            (building / name).mkdir(parents=True)
        (building / "README.txt").write_text(MARKER, encoding="utf-8")
        desk = _Desk(Run(kinship.root, kinship.config), building)
        asked = _excerpt(desk, portrait.asked, None) if portrait.asked else None
        page = (
            _environment()
            .get_template("diagnostics.html.j2")
            .render(
                run=kinship.config.run,
                portrait=portrait,
                lede=_lede(portrait),
                pictures=_draw(portrait),
                asked=asked,
                neighbours=[_excerpt(desk, near, near.cosine) for near in portrait.neighbours],
                hubs=[_excerpt(desk, hub, None, times) for hub, times in portrait.hubs],
                story=story,
                style=Markup((_REPORT / "style.css").read_text(encoding="utf-8")),
                script=Markup((_REPORT / "page.js").read_text(encoding="utf-8")),
            )
        )
        shutil.rmtree(assets, ignore_errors=True)
        building.rename(assets)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    write_text(output / "index.html", page)
    return output / "index.html"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(FILTERS)
    return environment


def _lede(portrait: Portrait) -> str:
    what = {
        "features": "Features of one layer, frame by frame: whether they move, drift, collapse or tell too much.",
        "codebook": "A codebook and its units: whether its codes are used, alike, and free of the speaker.",
        "pairs": "Retrieved pairs: what is retrieved, how often, and whose voice it has.",
    }
    return what[portrait.kind]


def _draw(portrait: Portrait) -> list[Picture]:
    pictures = []
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        for number, (draw, caption) in enumerate(portrait.panels, start=1):
            figure, axes = plt.subplots(layout="constrained")
            draw(axes)
            pictures.append(Picture(_inline(figure, f"f{number}", caption), caption))
    return pictures


def _excerpt(desk: _Desk, near: Neighbour, cosine: float | None, times: int = 0) -> Excerpt:
    """Speech around a frame as a file and a picture; without them where the audio is not there."""
    plain = Excerpt(near.utt_id, near.frame, near.speaker, cosine, times)
    if desk.corpus is None or near.utt_id not in desk.corpus:
        return plain
    samples = np.asarray(desk.corpus[near.utt_id])
    here = min(near.frame * HOP, len(samples))
    start = max(0, here - int(AROUND_S * SAMPLE_RATE))
    piece = np.array(samples[start : here + HOP + int(AROUND_S * SAMPLE_RATE)])
    if not len(piece):
        return plain
    name = desk._name(f"{near.utt_id}-{near.frame}")
    write_audio(desk.assets / "audio" / name, piece)
    link = f"assets/audio/{name}"
    return Excerpt(
        near.utt_id,
        near.frame,
        near.speaker,
        cosine,
        times,
        link,
        desk.spectrogram(link),
        len(piece) / SAMPLE_RATE,
        round(100 * (here - start) / len(piece), 2),
        round(100 * HOP / len(piece), 2),
    )
