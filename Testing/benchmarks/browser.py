"""`promise view` in Debian's Chromium on 512 × 512 × 200 voxels: from the mouse to the screen, scrolling, memory.

    python Testing/benchmarks/browser.py [--moves 40] [--json FILE]
    python Testing/benchmarks/browser.py --picture docs/pictures/view.jpg [--volume FILE]    (measures nothing)

Needs the extras `view` and `browser`, Chromium and PyTorch. Real parts: server, MRML, Slicer's views, page and browser
(headless), the embedded `heart` pack on `tiny`; the mouse is Playwright's. Slices are encoded before, as after a pass.
A time ends when a picture that shows the change has arrived in the page; the clock is the page's own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "slicer_view"), str(ROOT / "ProMISeSlicer")]

SHAPE = (200, 512, 512)  # slices, rows, columns
_WATCH = """() => {
  const image = document.querySelector("[data-view='Red'] img");
  const canvas = Object.assign(document.createElement("canvas"), { width: 9, height: 9 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  window.look = (x, y) => {  // the pixels around a place in the page
    const area = image.getBoundingClientRect(), scale = image.naturalWidth / area.width;
    context.drawImage(image, (x - area.left) * scale - 4, (y - area.top) * scale - 4, 9, 9, 0, 0, 9, 9);
    return context.getImageData(0, 0, 9, 9).data;
  };
  window.spot = null;  // [x, y, pixels before]
  window.seen = [];  // when something else was there
  window.pictures = [];
  new MutationObserver(() => {
    image.decode().catch(() => {}).then(() => {
      window.pictures.push(performance.now());
      if (!window.spot) return;
      const [x, y, before] = window.spot;
      if (window.look(x, y).reduce((sum, value, at) => sum + Math.abs(value - before[at]), 0) > 2500)
        window.seen.push(performance.now());
    });
  }).observe(image, { attributes: true, attributeFilter: ["src"] });
  window.pressed = [];
  for (const kind of ["pointerdown", "pointerup"])
    document.addEventListener(kind, () => window.pressed.push(performance.now()), true);
}"""


def writeVolume(path: Path) -> None:
    """The heart phantom's slices, enlarged, over and over, with noise: no two are the same, as in a scan."""
    import SimpleITK as sitk
    from scipy import ndimage

    from ProMISeCore import phantom

    small = np.asarray(phantom.heart().voxels, np.float32)
    scale = [SHAPE[1] / small.shape[1], SHAPE[2] / small.shape[2]]
    large = np.stack([ndimage.zoom(slice_, scale, order=1) for slice_ in small]).astype(np.int16)
    voxels, random = large[np.linspace(0, len(large) - 1, SHAPE[0]).round().astype(int)], np.random.default_rng(0)
    for slice_ in voxels:
        slice_ += random.normal(0, 0.01 * np.ptp(large), slice_.shape).astype(np.int16)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.7, 1.0))
    sitk.WriteImage(image, str(path))


def summary(values: list[float]) -> str:
    return f"median {np.median(values):.0f} ms, p95 {np.percentile(values, 95):.0f} ms, n {len(values)}"


def clicks(desk, count: int) -> list[float]:
    """From a click at a place where the mouse was not before to the first picture with the control point there."""
    left, top, height = desk.corner()
    found, random = [], np.random.default_rng(1)
    for number in range(count):
        desk.page.keyboard.press("pn"[number % 2])
        desk.until(lambda facts: facts["tool"] != "move", "no tool")
        x, y = left + random.uniform(120, 300), top + random.uniform(60, height - 60)
        desk.page.mouse.move(left + 60, top + 60)
        desk.page.wait_for_timeout(500)
        desk.page.evaluate(
            "([x, y]) => { seen.length = pressed.length = 0; spot = [x, y, look(x, y)]; }",
            [x, y],
        )
        desk.page.mouse.move(x, y)
        desk.page.mouse.down()
        desk.page.mouse.up()
        desk.page.wait_for_timeout(800)
        pressed, seen = desk.page.evaluate("[pressed[0], seen]")
        found.append(next(picture - pressed for picture in seen if picture > pressed))
        desk.page.keyboard.press("Escape")
        desk.page.keyboard.press("u")
        desk.page.wait_for_timeout(400)
    return found


def drags(desk, count: int, target: str) -> list[float]:
    """From the release of a dragged point to the last lossy picture of what follows: the overlay is final."""
    found, random = [], np.random.default_rng(2)
    for _ in range(count):
        facts = desk.settle()
        point = next(p for p in facts["points"][target] if p[0] and p[5] == facts["slice"])
        start = desk.place(point[2:5])
        end = (start[0] + random.uniform(-14, 14), start[1] + random.uniform(-14, 14))
        desk.page.mouse.move(*start)
        desk.page.wait_for_timeout(400)
        desk.page.mouse.down()
        desk.page.mouse.move(*end, steps=4)  # released at once: after a pause the preview has drawn it all
        desk.page.evaluate("window.pictures.length = 0; window.pressed.length = 0")
        desk.page.mouse.up()
        desk.page.wait_for_timeout(1000)
        released, pictures = desk.page.evaluate("[window.pressed[0], window.pictures]")
        # pictures come until the scene rests; then, 200 ms later, once more without loss, which shows nothing new
        later = [picture - released for picture in pictures if picture > released]
        found.append(later[-2] if len(later) > 1 else later[-1])
    return found


def scrolling(desk, seconds: float) -> float:
    """Pictures a second while the wheel turns."""
    left, top, _ = desk.corner()
    desk.page.mouse.move(left + 200, top + 120)
    desk.page.evaluate("window.pictures.length = 0")
    started = time.monotonic()
    number = 0
    while time.monotonic() - started < seconds:
        desk.page.mouse.wheel(0, -100 if number % 120 < 60 else 100)
        number += 1
        desk.page.wait_for_timeout(20)
    elapsed = time.monotonic() - started
    return len(desk.page.evaluate("window.pictures")) / elapsed


def measure(folder: Path, moves: int) -> dict:
    import browsing

    writeVolume(folder / "volume.nii.gz")
    server, target = browsing.Server(folder, folder / "volume.nii.gz"), "left ventricle"
    with browsing.browser() as made:
        desk = browsing.Desk(server, made.new_context(viewport={"width": 1280, "height": 720}).new_page()).open()
        desk.page.wait_for_selector("#volume-name")
        if "Heart" not in desk.page.inner_text(".v-select"):
            desk.page.evaluate("window.trame.trigger('do', ['pack', 'heart'])")
        started = time.monotonic()
        desk.page.click("#segment")
        desk.page.wait_for_selector("#strip", timeout=120_000)
        desk.page.wait_for_selector("#cancel[disabled]", timeout=400_000)
        whole = time.monotonic() - started
        desk.page.click(f"button:has-text('{target}')")
        desk.settle()
        desk.page.evaluate(_WATCH)
        found = {"whole pass, s": round(whole, 1), "click to point": summary(clicks(desk, moves))}
        found["drag release to new overlay on screen"] = summary(drags(desk, moves, target))
        found["scrolling, pictures a second"] = round(scrolling(desk, 8), 1)
        found["server, peak memory"] = f"{desk.facts()['peakMB']:.0f} MB"
    server.close()
    return found


def photograph(path: Path, volume: Path | None, folder: Path, width: int, height: int, scheme: str) -> None:
    """The page after a pass and a correction, with surfaces; on the generated heart unless one is given."""
    import browsing

    server = browsing.Server(folder, volume)
    with browsing.browser() as made:
        context = made.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        desk = browsing.Desk(server, context.new_page()).open()
        if volume is None:
            desk.example()
        desk.page.wait_for_selector("#volume-name")
        desk.page.evaluate("window.trame.trigger('do', ['pack', 'heart'])")
        desk.page.wait_for_function("document.querySelector('.v-select').innerText.includes('Heart')")
        desk.segment()
        desk.page.click("button:has-text('left ventricle')")
        facts = desk.settle()
        point = next(p for p in facts["points"]["left ventricle"] if p[0] and p[5] == facts["slice"])
        x, y = desk.place(point[2:5])
        desk.drag((x, y), (x - 6, y + 4))
        desk.page.wait_for_timeout(1000)
        desk.settle()
        desk.page.click("#show3d")
        desk.page.wait_for_timeout(4000)
        desk.page.evaluate("document.querySelector('.promise-panel').scrollTop = 0")
        desk.page.wait_for_timeout(500)
        desk.page.screenshot(path=path)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="write a picture of the page instead")
    parser.add_argument("--volume", type=Path, help="of a heart, for the picture")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), help="of the picture's page")
    parser.add_argument("--scheme", choices=("light", "dark"), default="dark")
    arguments = parser.parse_args()
    if arguments.picture:
        with tempfile.TemporaryDirectory() as folder:
            photograph(arguments.picture, arguments.volume, Path(folder), *arguments.size, arguments.scheme)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.moves)
    found["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    for name, value in found.items():
        print(f"{name:45} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
