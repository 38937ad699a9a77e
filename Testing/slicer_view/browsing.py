"""A server of its own process and a page in Debian's Chromium, with what a test does on it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
_SECONDS = 60.0


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def whyNot() -> str:
    """What a test in the browser lacks here, or ""."""
    for name, package in (("slicer_core", "slicer-core"), ("trame", "trame"), ("playwright", "playwright")):
        if importlib.util.find_spec(name) is None:
            return f"{package} is not installed; pip install -e .[view,browser]"
    if chromium() is None:
        return "there is no Chromium; apt-get install chromium"
    sys.path.insert(0, str(HERE.parents[1] / "ProMISeSlicer"))
    from ProMISeView import rendering

    return rendering.whyNot()


class Server:
    """A running server; `log` is what it has printed."""

    def __init__(self, folder: Path, volume: Path | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._file = folder / f"server-{self.port}.log"
        command = [sys.executable, str(HERE / "served.py"), str(self.port), *([str(volume)] if volume else [])]
        environment = dict(os.environ, PROMISE_HOME=str(folder / "home"))
        with self._file.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self.until(lambda: "ProMISe is at" in self.log, "the server did not start")

    @property
    def log(self) -> str:
        return self._file.read_text(errors="replace")

    def facts(self, cookies: str = "") -> dict:
        request = urllib.request.Request(f"{self.url}/facts", headers={"Cookie": cookies})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def until(self, condition, message: str, seconds: float = _SECONDS):
        """Wait for what `condition` gives to be true; returns it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log
            with contextlib.suppress(urllib.error.URLError):
                if found := condition():
                    return found
            time.sleep(0.02)
        raise AssertionError(f"{message}\n{self.log}")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class Desk:
    """A page and the server behind it."""

    def __init__(self, server: Server, page) -> None:
        self.server, self.page, self.errors = server, page, []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._note(message))
        page.on("request", lambda request: self._local(request.url))

    def _note(self, message) -> None:
        isLauncher = "paraview" in json.dumps(message.location)  # trame asks for a launcher that is not there
        if message.type == "error" and not isLauncher and "422" not in message.text:
            self.errors.append(message.text)

    def _local(self, url: str) -> None:
        if not url.startswith((self.server.url, self.server.url.replace("http", "ws"), "data:", "blob:")):
            self.errors.append(f"the page asked for {url}")

    def open(self) -> Desk:
        self.page.goto(self.server.url)
        self.page.wait_for_selector("#segment", timeout=30_000)
        self.page.wait_for_function("document.querySelectorAll('.promise-area img[src]').length >= 1 || true")
        return self

    def facts(self) -> dict:
        return json.loads(self.page.evaluate("fetch('facts').then((answer) => answer.text())"))

    def until(self, condition, message: str, seconds: float = _SECONDS) -> dict:
        """Facts for which the condition holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.facts()
            if condition(found):
                return found
            self.page.wait_for_timeout(30)
        known = {name: value for name, value in found.items() if name not in ("masks", "points", "red")}
        mine = {name: [point for point in points if point[1]] for name, points in found["points"].items()}
        raise AssertionError(
            f"{message}; the page says: {self.message}\n{known}\nthe user's points: {mine}\n{self.server.log}"
        )

    def settle(self) -> dict:
        """Wait until nothing is left to do."""
        self.page.wait_for_timeout(60)
        return self.until(lambda found: not found["busy"], "still busy")

    @property
    def message(self) -> str:
        return self.page.inner_text("#message")

    def example(self) -> Desk:
        self.page.click("#try")
        self.page.wait_for_selector("#volume-name")
        self.until(lambda found: found["size"][0] > 320, "the view has no size")
        return self

    def segment(self, least: int = 2) -> dict:
        """Facts after a pass; least: different slices that every target then has, an empty one among them."""
        self.page.click("#segment")
        self.page.wait_for_selector("#strip")
        found = self.until(lambda found: all(len(set(m)) >= least for m in found["masks"].values()) and found["masks"]
                           and not found["busy"], "segmenting did not end")  # fmt: skip
        self.page.wait_for_selector("#cancel[disabled]")  # the page knows it too, and nothing moves any more
        return found

    def save(self, name: str, folder: Path) -> Path:
        """Press one of the Save buttons; the file, under the name that the page gave it."""
        with self.page.expect_download() as download:
            self.page.click(f"#save-{name}")
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def pixels(self, name: str = "Red") -> np.ndarray:
        """(height, width, 3) of a view as the browser shows it, once it rests."""
        import io

        from PIL import Image

        self.page.wait_for_timeout(500)
        self.page.mouse.move(5, 5)
        picture = self.page.locator(f"[data-view='{name}']").screenshot()
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)

    def corner(self, name: str = "Red") -> tuple[float, float, float]:
        """Left, top and height of a view's area in the page."""
        box = self.page.locator(f"[data-view='{name}']").bounding_box()
        return box["x"], box["y"], box["height"]

    def place(self, ras) -> tuple[float, float]:
        """Where in the page a world point is, in the axial view: the middle of its pixel."""
        left, top, _ = self.corner()
        found = self.facts()
        x, y = (np.linalg.inv(np.array(found["red"])) @ [*ras, 1])[:2]
        return left + round(x) + 0.5, top + found["size"][1] - 1 - round(y) + 0.5

    def drag(self, start, end, steps: int = 6) -> None:
        self.page.mouse.move(*start)
        self.page.wait_for_timeout(150)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=steps)
        self.page.mouse.up()


def differing(before: dict, after: dict) -> dict[str, list[int]]:
    """Target → slices whose masks differ."""
    pairs = {name: zip(masks, after["masks"][name], strict=True) for name, masks in before["masks"].items()}
    return {name: [n for n, (was, now) in enumerate(pair) if was != now] for name, pair in pairs.items()}


@contextlib.contextmanager
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield made
        made.close()
