"""The listening test: a page beside the report that asks listeners, blind, and saves their answers as JSON.

There are three kinds of questions: naturalness of one recording (MOS, 1 to 5), its similarity to the target's own speech
(SMOS, 1 to 5), and which of two systems is more similar to the target (ABX). Systems and anchors are asked about on the same
trials. The names of the recordings tell nothing; which system each one is stands in ``assets/listening/key.json``, which the
page does not read. Each listener gets the questions in an order of their own, by the seed that they type or that the page's
address gives (``?seed=7``). ``bowerbird analyze-listening`` turns answers and key into means with intervals.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

from markupsafe import Markup

from bowerbird.artifacts.files import write_json
from bowerbird.artifacts.identity import stable_hash
from bowerbird.stages.report.players import ListeningTrial
from bowerbird.stages.report.static_page import HERE, style_sheet, template_environment

FOLDER = Path("listening")  # below the page's folder of files
KEY_VERSION = 1


@dataclass(frozen=True)
class Question:
    """One question as the page shows it, without the name of a system."""

    id: str
    kind: str  # mos, smos, abx
    clips: list[str]  # links: one, or A and B
    reference: str = ""  # link to real speech of the target


def write_questionnaire(trials: Sequence[ListeningTrial], assets: Path, title: str) -> str:
    """The page as text ("" if nothing can be asked); its recordings and its key are written below ``assets``."""
    questions, key = [], {}
    for trial in trials:
        links = {row.label: _blind_copy(row.audio, assets) for row in trial.rows if row.audio}
        reference = next((links[row.label] for row in trial.rows if row.kind == "heldout" and row.audio), "")
        shared = {name: trial.trial[name] for name in ("trial_id", "source_speaker", "target_speaker")}
        for kind, labels in _asked_about(trial, has_reference=bool(reference)):
            text = json.dumps([kind, shared["trial_id"], labels])
            name = hashlib.sha256(text.encode()).hexdigest()[:12]
            clips = [links[label] for label in labels]
            questions.append(Question(name, kind, clips, "" if kind == "mos" else reference))
            key[name] = {"kind": kind, "systems": labels, **shared}
    if not questions:
        return ""
    questions.sort(key=lambda question: question.id)
    asked = [asdict(question) for question in questions]
    test = stable_hash(asked)
    write_json(assets / FOLDER / "key.json", {"test": test, "version": KEY_VERSION, "questions": key})
    return (
        template_environment(HERE)
        .get_template("questionnaire.html.j2")
        .render(
            title=title,
            test=test,
            count=len(questions),
            style=style_sheet(),
            questions=Markup(json.dumps(asked, sort_keys=True).replace("<", "\\u003c")),
            script=Markup((HERE / "questionnaire.js").read_text(encoding="utf-8")),
        )
    )


def _asked_about(trial: ListeningTrial, has_reference: bool) -> Iterator[tuple[str, list[str]]]:
    """(kind, labels of the recordings) of every question of a trial."""
    played = [row for row in trial.rows if row.audio and row.kind != "heldout"]
    yield from (("mos", [row.label]) for row in played)
    if not has_reference:
        return
    yield from (("smos", [row.label]) for row in played)
    systems = [row.label for row in played if row.kind == "system"]
    for number, pair in enumerate(combinations(systems, 2)):
        # which one is A changes from trial to trial and pair to pair, so that no side belongs to a system
        yield "abx", list(pair if (trial.number + number) % 2 else pair[::-1])


def _blind_copy(link: str, assets: Path) -> str:
    """Link to a copy under a name made of its bytes, which tells nothing."""
    source = assets / Path(link).relative_to("assets")
    name = hashlib.sha256(source.read_bytes()).hexdigest()[:16] + source.suffix
    target = assets / FOLDER / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(source, target)
    return f"assets/{(FOLDER / name).as_posix()}"
