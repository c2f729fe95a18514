"""The report in a real browser, opened from disk: it renders, asks for nothing elsewhere, plays, sorts, asks and saves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from report_fixture import fake_run
from webdriver import CHROMIUM, DRIVER, MISSING, Browser, browser

from bowerbird.config.sections.report import ReportConfig
from bowerbird.stages.report.page import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason=MISSING)
LOADED = """
  const load = (player) => new Promise((ready) => {
    player.addEventListener("loadedmetadata", () => ready(player.duration));
    player.addEventListener("error", () => ready(-1));
    player.preload = "metadata"; player.load();
  });
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    run = fake_run(root / "fake", second_system=True)
    page = root / "report" / "index.html"
    write_report(run, page, run / "config.yaml", ReportConfig(players=2, listening_trials=1))
    return page


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def stayed_at_home(chromium: Browser, report: Path) -> None:
    """No console error, and every request is for a file of the report's folder."""
    assert chromium.complaints() == []
    own = ("data:", "blob:", "chrome:", "chrome-untrusted:")  # the last two are of the browser's first, empty page
    asked = [address for address in chromium.requests() if not address.startswith(own)]
    assert asked and all(address.startswith(report.parent.as_uri()) for address in asked)


def test_page_works_from_disk(chromium: Browser, report: Path) -> None:
    chromium.open(report)
    found = chromium.run(
        LOADED
        + """
        const page = document.documentElement, pictures = [...document.images];
        for (const picture of pictures) picture.loading = "eager";
        const broken = [];
        await Promise.all(pictures.map((p) => p.decode().catch(() => broken.push(p.src))));
        const seconds = await Promise.all([...document.querySelectorAll("audio")].map(load));
        const head = document.querySelectorAll("table.sortable thead th")[2];
        const firsts = () => [...document.querySelectorAll("table.sortable tr.anchor")].slice(0, 3).map((r) => r.cells[0].firstChild.data);
        const before = firsts();
        head.querySelector("button").click();
        return { wide: page.scrollWidth > page.clientWidth + 1, broken, players: seconds.length,
                 silent: seconds.filter((s) => !(s > 0.3)).length, sorted: head.getAttribute("aria-sort"),
                 before, after: firsts(), title: document.title };
        """
    )
    assert found["broken"] == [] and not found["wide"]
    assert found["players"] >= 10 and found["silent"] == 0
    assert found["sorted"] == "ascending" and found["before"] != found["after"]
    assert found["title"] == "bowerbird · fake"  # no script from the data ran
    stayed_at_home(chromium, report)


def test_one_player_sounds_at_a_time(chromium: Browser, report: Path) -> None:
    chromium.open(report)
    found = chromium.run("""
        const [one, two] = document.querySelectorAll("audio");
        one.loop = two.loop = true;
        await one.play();
        await two.play();
        return { one: one.paused, two: two.paused };
        """)
    assert found == {"one": True, "two": False}


def test_a_number_opens_its_rows_and_a_model_its_definition(chromium: Browser, report: Path) -> None:
    chromium.open(report)
    found = chromium.run("""
        document.querySelector("table.scores thead th small a").click();
        await new Promise((ready) => setTimeout(ready, 300));
        return { open: document.getElementById("definitions").open,
                 rows: document.querySelector("table.scores td.num a").getAttribute("href") };
        """)
    assert found["open"] and (report.parent / found["rows"]).is_file()


def test_the_page_is_used_by_keys(chromium: Browser, report: Path) -> None:
    """Real key presses: a column is sorted, a fold opened, and focus is seen."""
    chromium.open(report)

    def press(key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            chromium.devtools("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    chromium.run("document.querySelector('table.scores thead button').focus(); return 1;")
    press("Enter", 13)
    found = chromium.run("return document.querySelector('table.scores thead th[aria-sort]').getAttribute('aria-sort');")
    assert found == "ascending"
    press("Tab", 9)  # on to the model's name, a link
    found = chromium.run("""
        const here = document.activeElement;
        return { tag: here.tagName, seen: getComputedStyle(here).outlineStyle };
        """)
    assert found == {"tag": "A", "seen": "solid"}
    chromium.run("document.querySelector('details.more:not([open]) summary').focus(); return 1;")
    press("Enter", 13)
    assert chromium.run("return document.activeElement.parentElement.open;")
    reachable = chromium.run("""
        const needed = [...document.querySelectorAll("audio, .scroll")];
        return needed.filter((e) => e.tabIndex < 0 && !e.controls).length;
        """)
    assert reachable == 0
    stayed_at_home(chromium, report)


def test_page_fits_a_phone(chromium: Browser, report: Path) -> None:
    for page in (report, report.with_name("listening.html")):
        chromium.narrow(390, 844)
        chromium.open(page)
        width = chromium.run("return document.documentElement.scrollWidth;")
        chromium.devtools("Emulation.clearDeviceMetricsOverride")
        assert width == 390, page


def test_the_listening_test_is_answered_by_keys_and_saves(chromium: Browser, report: Path) -> None:
    page = report.with_name("listening.html")
    chromium.requests()
    chromium.open(page)
    found = chromium.run(
        LOADED
        + """
        const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
        let saved = null, stuck = 0, plays = true;
        const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => { saved = blob; return make.call(URL, blob); };
        document.getElementById("listener").value = "someone";
        document.getElementById("seed").value = "7";
        document.getElementById("who").requestSubmit();
        const first = order.map((q) => q.id).join();
        for (let n = 0; n < QUESTIONS.length; n += 1) {
          const seconds = await Promise.all([...document.querySelectorAll("#players audio")].map(load));
          plays = plays && seconds.every((s) => s > 0.3);
          const before = document.getElementById("next").disabled;
          press(order[place].kind === "abx" ? "b" : "4");
          if (!before || document.getElementById("next").disabled) stuck += 1;
          press("Enter");
        }
        const done = !document.getElementById("done").hidden;
        document.getElementById("save").click();
        const result = JSON.parse(await saved.text());
        return { plays, stuck, done, asked: QUESTIONS.length, listener: result.listener, test: result.test === TEST,
                 answers: Object.values(result.answers).map((a) => a.answer),
                 mixed: first !== QUESTIONS.map((q) => q.id).join(),
                 again: shuffled(QUESTIONS, 7).map((q) => q.id).join() === first,
                 other: shuffled(QUESTIONS, 8).map((q) => q.id).join() !== first };
        """
    )
    assert found["stuck"] == 0 and all(found[name] for name in ("plays", "done", "test", "mixed", "again", "other"))
    assert len(found["answers"]) == found["asked"] == 11 and set(found["answers"]) == {"4", "B"}
    assert found["listener"] == "someone"
    stayed_at_home(chromium, page)


def test_answers_outlive_a_reload(chromium: Browser, report: Path) -> None:
    chromium.open(report.with_name("listening.html"))
    begin = """
        document.getElementById("listener").value = "returning";
        document.getElementById("who").requestSubmit();
        """
    press = 'document.dispatchEvent(new KeyboardEvent("keydown", { key: "2", bubbles: true, cancelable: true }));'
    kinds = chromium.run(begin + press.replace('"2"', 'order[0].kind === "abx" ? "a" : "2"') + "return order[0].kind;")
    chromium.open(report.with_name("listening.html"))
    found = chromium.run(begin + "return { place, known: Object.keys(answers).length };")
    assert found == {"place": 1, "known": 1}, kinds


def test_page_is_drawn(chromium: Browser, report: Path, tmp_path: Path) -> None:
    from PIL import Image

    chromium.open(report)
    with Image.open(chromium.screenshot(tmp_path / "page.png")) as image:
        assert image.width == 1280
        assert len(image.convert("RGB").resize((320, 500)).getcolors(1 << 20)) > 100
