"""Diagnostics as a folder with a page: pictures, and players for hub frames and for the neighbors of a frame.

The page takes style, players and pictures from the report, and like it loads nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bowerbird.artifacts.files import write_text
from bowerbird.audio import HOP, SAMPLE_RATE
from bowerbird.config.graph import Graph
from bowerbird.inspection.diagnostics import Diagnostics
from bowerbird.inspection.statistics import NeighborFrame
from bowerbird.stages.report.pictures import PictureMaker
from bowerbird.stages.report.players import AssetWriter
from bowerbird.stages.report.static_page import page_script, replaced_assets, style_sheet, template_environment

AROUND = SAMPLE_RATE // 2  # samples of speech before and after a frame
MARKER = "files of `bowerbird show --output`; they are replaced when it is written again\n"
REFUSAL = "is there and is not of `bowerbird show`; name another --output"
LEDES = {
    "features": "Features of one layer, frame by frame: whether they vary, drift, collapse or tell the speaker.",
    "codebook": "A codebook and its units: whether its codes are used, alike, and independent of the speaker.",
    "pairs": "Retrieved pairs: what is retrieved, how often, and which speaker it is of.",
}


@dataclass(frozen=True)
class Excerpt:
    """A frame on the page: a second of speech around it, and where in it the frame lies.

    ``times`` is how often it is retrieved, ``cosine`` that to the frame asked about; 0 and None where that is not the point.
    """

    utt_id: str
    frame: int
    speaker: str
    cosine: float | None = None
    times: int = 0
    audio: str = ""  # link, "" where its audio is not there
    picture: str = ""
    seconds: float = 0.0
    left: float = 0.0  # of the frame in the excerpt, percent
    width: float = 0.0  # of the frame, percent


def write_diagnostics_page(
    graph: Graph, found: Diagnostics, provenance: Sequence[tuple[str, str]], output: Path
) -> Path:
    """Write ``output``/index.html and the folder assets/ beside it; gives the path of the page.

    ``provenance`` are headings and texts on how the variant was made. Raises `BowerbirdError` where assets/ is of another page.
    """
    maker = PictureMaker()
    with replaced_assets(output, MARKER, REFUSAL) as assets:
        writer = AssetWriter(graph.paths.all_shards("audio"), assets)
        page = (
            template_environment(Path(__file__).parent)
            .get_template("diagnostics.html.j2")
            .render(
                run=graph.config.run,
                found=found,
                lede=LEDES[found.kind],
                pictures=[maker.make(panel.draw, panel.caption) for panel in found.panels],
                asked=_excerpt(writer, found.asked) if found.asked else None,
                neighbors=[replace(_excerpt(writer, near), cosine=near.cosine) for near in found.neighbors],
                hubs=[replace(_excerpt(writer, hub), times=times) for hub, times in found.hubs],
                provenance=provenance,
                style=style_sheet(),
                script=page_script(),
            )
        )
    write_text(output / "index.html", page)
    return output / "index.html"


def _excerpt(writer: AssetWriter, near: NeighborFrame) -> Excerpt:
    """Speech around a frame as a file and a picture; without them where the audio is not there."""
    excerpt = Excerpt(near.utt_id, near.frame, near.speaker)
    samples = writer.samples(near.utt_id)
    if samples is None:
        return excerpt
    here = min(near.frame * HOP, len(samples))
    start = max(0, here - AROUND)
    piece = samples[start : here + HOP + AROUND]
    if not len(piece):
        return excerpt
    link = writer.add_samples(f"{near.utt_id}-{near.frame}", piece)
    return replace(
        excerpt,
        audio=link,
        picture=writer.spectrogram(link),
        seconds=len(piece) / SAMPLE_RATE,
        left=round(100 * (here - start) / len(piece), 2),
        width=round(100 * HOP / len(piece), 2),
    )
