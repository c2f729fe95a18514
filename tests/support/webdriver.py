"""A headless Chromium driven over WebDriver, with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "no Chromium with chromedriver on the path: the page is not opened in a browser"
PATIENCE_S = 400  # a busy machine is slow, not wrong
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One window. Scripts run in the page in real time; their result is their ``return`` or what they give ``done``."""

    def __init__(self, address: str, session: str) -> None:
        self.address = f"{address}/session/{session}"

    def call(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        return _request(f"{self.address}/{path}", body if method == "POST" else None, method)

    def open(self, page: Path) -> None:
        self.call("url", {"url": page.as_uri()})

    def run(self, script: str) -> Any:
        """The value of an asynchronous function's body."""
        text = f"const done = arguments[0]; (async () => {{ {script} }})().then(done, (e) => done('failed: ' + e))"
        return self.call("execute/async", {"script": text, "args": []})

    def devtools(self, command: str, **params: Any) -> Any:
        return self.call("goog/cdp/execute", {"cmd": command, "params": params})

    def narrow(self, width: int, height: int) -> None:
        """Be a phone."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=True
        )

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.call("screenshot", method="GET")))
        return path

    def complaints(self) -> list[str]:
        """Errors of the console."""
        return [entry["message"] for entry in self.call("se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """Addresses the page asked for, since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.call("se/log", {"type": "performance"})]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def _request(address: str, body: dict[str, Any] | None, method: str = "POST") -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    try:
        with _DIRECT.open(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.load(error)["value"]["message"][:1000]) from error


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser without a network (its proxy is a closed port), and with its profile in ``profile``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "HOME": str(profile)}
    command = [str(DRIVER), f"--port={port}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(address)
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--mute-audio",
            "--autoplay-policy=no-user-gesture-required",
            "--proxy-server=127.0.0.1:9",
            "--window-size=1280,2000",
            f"--user-data-dir={profile / 'data'}",
        ]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"script": 1000 * PATIENCE_S, "pageLoad": 1000 * PATIENCE_S},
        }
        session = _request(f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        yield Browser(address, session)
        _request(f"{address}/session/{session}", None, "DELETE")
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_ready(address: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            if _request(f"{address}/status", None, "GET")["ready"]:
                return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)
