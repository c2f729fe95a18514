"""The report in a real browser, opened from disk: it renders, obeys its own policy, and its players find their files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bowerbird.config import ReportConfig
from bowerbird.report import write_report
from report_fixture import fake_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path: the page is not opened in a browser")
PROBE = """<script>
addEventListener("load", async () => {
  const report = [], page = document.documentElement;
  report.push("wide=" + (page.scrollWidth > page.clientWidth + 1));
  const pictures = [...document.images];
  for (const picture of pictures) picture.loading = "eager";
  await Promise.all(pictures.map((p) => p.decode().catch(() => report.push("broken=" + p.src))));
  const load = (player) => new Promise((done) => {
    player.addEventListener("loadedmetadata", () => done(player.duration));
    player.addEventListener("error", () => done(-1));
    player.preload = "metadata"; player.load();
  });
  const seconds = await Promise.all([...document.querySelectorAll("audio")].map(load));
  report.push("players=" + seconds.length, "silent=" + seconds.filter((s) => !(s > 0.3)).length);
  const head = document.querySelectorAll("table.sortable thead th")[2];
  const firsts = () => [...document.querySelectorAll("table.sortable tr.anchor")].slice(0, 3).map((r) => r.cells[0].firstChild.data);
  report.push("before=" + firsts());
  head.querySelector("button").click();
  report.push("sorted=" + head.getAttribute("aria-sort"), "after=" + firsts(), "title=" + document.title);
  document.body.dataset.probe = report.join(" ; ");
});
</script></body>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    run = fake_run(root / "fake")
    page = root / "report" / "index.html"
    write_report(run, page, run / "config.yaml", ReportConfig(players=2))
    return page


def browse(page: Path, profile: Path, *options: str) -> str:
    """Standard output of a headless browser without a network."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio",
               "--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}", "--virtual-time-budget=8000",
               *options, page.as_uri()]  # fmt: skip
    environment = {**os.environ, "HOME": str(profile)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def probe(report: Path, tmp_path: Path, width: int) -> dict[str, str]:
    """What a script that is added to the page finds out about it."""
    page = report.with_name("probe.html")
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
    dom = browse(page, tmp_path, f"--window-size={width},2000", "--dump-dom")
    found = re.search(r'data-probe="([^"]*)"', dom)
    assert found, "the page's scripts did not run to their end"
    return dict(item.split("=", 1) for item in found[1].split(" ; "))


def test_page_works_from_disk(report: Path, tmp_path: Path) -> None:
    found = probe(report, tmp_path, 1280)
    assert found["wide"] == "false" and "broken" not in found
    assert int(found["players"]) >= 10 and found["silent"] == "0"
    assert found["sorted"] == "ascending" and found["before"] != found["after"]
    assert found["title"] == "bowerbird · fake"  # no script from the data ran


def test_page_fits_a_phone(report: Path, tmp_path: Path) -> None:
    """In a frame 390 pixels wide, as headless windows are never that narrow."""
    probe(report, tmp_path, 600)
    frame = report.with_name("phone.html")
    script = "onload = () => setTimeout(() => { const d = f.contentDocument, p = d?.documentElement;" \
        " document.body.dataset.wide = p ? p.scrollWidth : 0 }, 500)"  # fmt: skip
    frame.write_text(f'<body><iframe id="f" src="index.html" style="width:390px;height:900px;border:0"></iframe>'
                     f"<script>{script}</script></body>", encoding="utf-8")  # fmt: skip
    dom = browse(frame, tmp_path, "--window-size=600,900", "--allow-file-access-from-files", "--dump-dom")
    assert re.search(r'data-wide="(\d+)"', dom)[1] == "390"


TEST_PROBE = """<script>
addEventListener("load", async () => {
  const report = [], press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  addEventListener("error", (event) => report.push("error=" + event.message));
  let saved = null;
  const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => { saved = blob; return make.call(URL, blob); };
  const begin = (name, seed) => {
    document.getElementById("listener").value = name;
    document.getElementById("seed").value = seed;
    document.getElementById("who").requestSubmit();
  };
  begin("someone", 7);
  const first = order.map((q) => q.id).join(","), asked = QUESTIONS.length;
  report.push("shuffled=" + (first !== QUESTIONS.map((q) => q.id).join(",")));
  const load = (player) => new Promise((done) => {
    player.addEventListener("loadedmetadata", () => done(player.duration > 0.3));
    player.addEventListener("error", () => done(false));
    player.preload = "metadata"; player.load();
  });
  let plays = true;
  for (let n = 0; n < asked; n += 1) {
    plays = plays && (await Promise.all([...document.querySelectorAll("#players audio")].map(load))).every(Boolean);
    const before = document.getElementById("next").disabled;
    press(order[place].kind === "abx" ? "b" : "4");
    if (!before || document.getElementById("next").disabled) report.push("stuck=" + n);
    press("Enter");
  }
  report.push("plays=" + plays, "done=" + !document.getElementById("done").hidden);
  document.getElementById("save").click();
  const result = JSON.parse(await saved.text());
  report.push("answers=" + Object.keys(result.answers).length, "asked=" + asked, "listener=" + result.listener, "test=" + (result.test === TEST));
  report.push("kinds=" + [...new Set(Object.values(result.answers).map((a) => a.answer))].sort().join(""));
  report.push("again=" + (shuffled(QUESTIONS, 7).map((q) => q.id).join(",") === first), "other=" + (shuffled(QUESTIONS, 8).map((q) => q.id).join(",") !== first));
  document.body.dataset.probe = report.join(" ; ");
});
</script></body>"""


def test_the_listening_test_is_answered_by_keys_and_saves(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "fake", second_system=True)
    write_report(run, tmp_path / "report/index.html", run / "config.yaml", ReportConfig(players=1, listening_trials=1))
    page = tmp_path / "report/listening.html"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", TEST_PROBE), encoding="utf-8")
    dom = browse(page, tmp_path / "profile", "--window-size=900,1200", "--virtual-time-budget=60000", "--dump-dom")
    found = dict(item.split("=", 1) for item in re.search(r'data-probe="([^"]*)"', dom)[1].split(" ; "))
    assert "error" not in found and "stuck" not in found
    assert (
        found["shuffled"]
        == found["plays"]
        == found["done"]
        == found["test"]
        == found["again"]
        == found["other"]
        == "true"
    )
    assert found["answers"] == found["asked"] and found["listener"] == "someone" and found["kinds"] == "4B"


def test_page_is_drawn(report: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "page.png"
    browse(report, tmp_path, "--window-size=1280,2000", f"--screenshot={picture}")
    with Image.open(picture) as image:
        assert image.size == (1280, 2000)
        assert len(image.convert("RGB").resize((320, 500)).getcolors(1 << 20)) > 100
