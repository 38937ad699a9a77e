"""A window's pictures to its area of the page, and the page's mouse back to the window."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from vtkmodules.vtkWebCore import vtkRemoteInteractionAdapter

from .windows import Window

_REST_SECONDS = 0.2  # without a change: then the picture is sent again, without loss
_QUALITY = 85  # JPEG, while things move
_TOUCH_SECONDS = 1.0  # for so long after the mouse a view comes first
_PENDING = 4  # messages that wait for a slow network; until there are fewer, nothing is drawn
_ROUNDING = 1e-3  # pixels; what is left of differences of edges that are no whole numbers
_IGNORED = ("StartInteractionEvent", "EndInteractionEvent")


class Stream:
    """area_name and the methods with underscores are those of trame-rca's StreamManager.

    pace: seconds at least between two drawings, asked each time; a view in which the mouse was just now does not wait.
    Coordinates: the page counts whole pixels of its own from the top left corner, VTK from the lowest row;
    where the screen has more pixels than the page (scale), the middle one of several is meant.
    """

    def __init__(self, window: Window, name: str, pace: Callable[[], float]) -> None:
        self.window, self.area_name, self._pace = window, name, pace
        self.frames = 0
        self._drawnAt = self._touchedAt = -np.inf
        self._sent: tuple[str, np.ndarray] | None = None  # kind and pixels of what the page shows
        self._scale, self._height = 1.0, 0.0
        self._streamer = None
        self._changed = asyncio.Event()
        self._pressed: set[str] = set()
        window.onChange = self.refresh

    @property
    def isTouched(self) -> bool:
        """Whether the mouse was in this view just now."""
        return time.monotonic() < self._touchedAt + _TOUCH_SECONDS

    def refresh(self) -> None:
        """Draw and send as soon as there is time."""
        self._changed.set()

    def start(self) -> None:
        """There is a page that shows nothing yet."""
        self._sent = None
        self.refresh()

    async def run(self) -> None:
        """Send pictures for ever: at once with little loss, without loss when nothing changes any more."""
        while True:
            await self._changed.wait()
            await self._patience()
            self._changed.clear()
            await self._send("jpeg")
            try:
                await asyncio.wait_for(self._changed.wait(), _REST_SECONDS)
            except asyncio.TimeoutError:
                await self._send("png")

    async def _patience(self) -> None:
        """Until it is this view's turn."""
        while not self.isTouched and time.monotonic() < self._drawnAt + self._pace():
            await asyncio.sleep(0.02)

    async def _send(self, kind: str) -> None:
        while self._streamer is not None and self._streamer.coreServer.network_monitor.pending > _PENDING:
            await asyncio.sleep(0.01)
        if self._streamer is None or not self._height:
            return
        pixels, self._drawnAt = self.window.pixels(), time.monotonic()
        if self._isShown(kind, pixels):
            return
        self._sent = kind, pixels
        data = await asyncio.get_running_loop().run_in_executor(None, encoded, pixels, kind)
        height, width = pixels.shape[:2]
        meta = {"type": f"image/{kind}", "codec": "", "w": width, "h": height, "st": int(time.time() * 1000)}
        self._streamer.push_content(self.area_name, {**meta, "key": "key", "quality": _QUALITY}, data)
        self.frames += 1

    def _isShown(self, kind: str, pixels: np.ndarray) -> bool:
        """Whether the page has this picture already, without loss if that is asked: views change together."""
        return self._sent is not None and self._sent[0] in (kind, "png") and np.array_equal(self._sent[1], pixels)

    # What trame-rca calls

    def set_streamer(self, streamer) -> None:
        self._streamer = streamer
        self._sent = None

    def update_size(self, origin: str, size: dict) -> None:
        """size: w and h in pixels of the page, p: pixels of the screen in one of them."""
        self._scale = min(max(float(size.get("p") or 1), 0.25), 4.0)
        self._height = float(size.get("h") or 0)
        self.window.resize(*(min(round(float(size.get(side) or 0) * self._scale), 8192) for side in "wh"))
        self.start()

    def on_interaction(self, origin: str, event: dict) -> None:
        kind = str(event.get("type"))
        if kind in _IGNORED or self._isStray(kind):
            return
        self._touchedAt = time.monotonic()
        vtkRemoteInteractionAdapter.ProcessEvent(self.window.interactor, json.dumps(self.placed(event)))

    def reset(self) -> None:
        self.start()

    def placed(self, event: dict) -> dict:
        """The event with x and y as VTK counts them; the page gives y from its lowest edge."""
        if "x" not in event or "y" not in event:
            return event
        column, row = int(event["x"] + _ROUNDING), int(self._height - event["y"] + _ROUNDING)
        x, y = (int((value + 0.5) * self._scale) for value in (column, row))
        return {**event, "x": x, "y": self.window.size[1] - 1 - y}

    def _isStray(self, kind: str) -> bool:
        """A release whose press was elsewhere, as on a button of the page."""
        if kind.endswith("Press"):
            self._pressed.add(kind.removesuffix("Press"))
        elif kind.endswith("Release"):
            button = kind.removesuffix("Release")
            if button not in self._pressed:
                return True
            self._pressed.discard(button)
        return False


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """(height, width, 3) uint8 as a JPEG or PNG file."""
    file, image = io.BytesIO(), Image.fromarray(pixels)
    if kind == "jpeg":
        image.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    else:
        image.save(file, "PNG", compress_level=1)
    return file.getvalue()
