"""The listening test: a page beside the report that asks, blind, and saves answers as JSON.

Three kinds of questions: naturalness of one recording (MOS, 1 to 5), how much it sounds like the target's own speech
(SMOS, 1 to 5), and which of two systems sounds more like it (ABX). The recordings bear names that tell nothing; which
system each is stands in ``assets/listening/key.json``, which the page does not read. Systems and anchors are asked
about on the same trials. Each listener gets the questions in an order of their own, by the seed they type or that the
page's address gives (``?seed=7``). `bowerbird listening analyse` turns answers and key into means with intervals.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bowerbird.artifacts.files import write_json
from bowerbird.artifacts.identity import stable_hash
from bowerbird.stages.report.players import Heard

FOLDER = Path("listening")


VERSION = 1


@dataclass(frozen=True)
class Question:
    """One question as the page shows it: no name of a system in it."""

    id: str
    kind: str  # mos, smos, abx
    sounds: list[str]  # links: one, or A and B
    reference: str = ""  # link to real speech of the target


def write_test(heard: list[Heard], assets: Path, title: str, style: Markup) -> str:
    """The page as text ("" if nothing can be asked); its recordings and its key go below ``assets``."""
    folder = assets / FOLDER
    questions, key = _questions(heard, assets, folder)
    if not questions:
        return ""
    test = stable_hash([asdict(question) for question in questions])
    write_json(folder / "key.json", {"test": test, "version": VERSION, "questions": key})
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here), autoescape=True, undefined=jinja2.StrictUndefined
    )
    data = json.dumps([asdict(question) for question in questions], sort_keys=True).replace("<", "\\u003c")
    return environment.get_template("test.html.j2").render(
        title=title,
        test=test,
        count=len(questions),
        style=style,
        questions=Markup(data),
        script=Markup((here / "test.js").read_text(encoding="utf-8")),
    )


def _questions(heard: list[Heard], assets: Path, folder: Path) -> tuple[list[Question], dict[str, Any]]:
    """Questions and, by their id, what the analysis needs to know."""
    questions: list[Question] = []
    key: dict[str, Any] = {}
    for item in heard:
        target = next((sound for sound in item.rows if sound.kind == "heldout" and sound.audio), None)
        played = [sound for sound in item.rows if sound.audio and sound.kind != "heldout"]
        blind = {sound.label: _blind(sound.audio, assets, folder) for sound in played}
        reference = _blind(target.audio, assets, folder) if target else ""
        shared = {name: item.trial[name] for name in ("trial_id", "source_speaker", "target_speaker")}

        def ask(
            kind: str, labels: list[str], reference: str = reference, blind: dict = blind, shared: dict = shared
        ) -> None:
            name = hashlib.sha256(json.dumps([kind, shared["trial_id"], labels]).encode()).hexdigest()[:12]
            questions.append(
                Question(name, kind, [blind[label] for label in labels], reference if kind != "mos" else "")
            )
            key[name] = {"kind": kind, "systems": labels, **shared}

        for sound in played:
            ask("mos", [sound.label])
        for sound in played if reference else []:
            ask("smos", [sound.label])
        systems = [sound.label for sound in played if sound.kind == "system"]
        for number, pair in enumerate(combinations(systems, 2) if reference else []):
            # who is A changes from trial to trial and pair to pair, so that no side is a system's
            ask("abx", list(pair if (item.number + number) % 2 else pair[::-1]))
    return sorted(questions, key=lambda question: question.id), key


def _blind(link: str, assets: Path, folder: Path) -> str:
    """Link to a copy under a name made of its bytes, which tells nothing."""
    source = assets / Path(link).relative_to("assets")
    name = hashlib.sha256(source.read_bytes()).hexdigest()[:16] + source.suffix
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / name).exists():
        shutil.copyfile(source, folder / name)
    return f"assets/{(FOLDER / name).as_posix()}"
