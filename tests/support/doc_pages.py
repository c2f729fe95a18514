"""README and docs as data: their links, their blocks of code, and what is in backticks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from source_tree import REPOSITORY

FOLDERS = ("docs", "examples", "workflow", "src")  # that hold pages
PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *(page for name in FOLDERS for page in sorted((REPOSITORY / name).rglob("*.md"))),
]
SHELL = ("", "sh", "bash", "console")  # languages of blocks that hold commands
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", flags=re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: the words after the fence, and the lines inside."""

    page: Path
    info: tuple[str, ...]
    text: str

    @property
    def language(self) -> str:
        """The first word after the fence, "" for none."""
        return self.info[0] if self.info else ""


def name_of(page: Path) -> str:
    """A page's path below the repository."""
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, tuple(match[1].split()), match[2]) for match in FENCE.finditer(text)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[tuple[str, str]]:
    """Links inside the repository as (file, anchor): the file relative to the page, "" for the page itself."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [(path, anchor) for target in targets if ":" not in target for path, _, anchor in [target.partition("#")]]


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as the usual renderers make them: small letters, hyphens, no punctuation."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_words(page: Path) -> list[str]:
    """What stands in backticks in the prose of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The words after ``program`` of each call of it in the blocks of a page; variables set before it are left out."""
    for block in blocks(page):
        if block.language not in SHELL:
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|", line):
                words = shlex.split(part.removeprefix("$ "), comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words and words[0] in (program, f".venv/bin/{program}"):
                    yield words[1:]
