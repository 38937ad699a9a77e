"""The page's state and what its buttons call; the session is pumped here, and the views are streamed."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable

from ProMISeSlicerLib import catalogue, progress
from ProMISeSlicerLib.engine import CoreEngine
from ProMISeSlicerLib.failing import SessionError
from trame.app import TrameApp
from trame.decorators import controller, trigger

from ProMISeCore import allocator, packs, phantom
from ProMISeCore.errors import InputError, PromiseError
from ProMISeCore.terminal import say

from . import describing, page, samples
from .files import Files
from .guard import Guard, isLoopback
from .stream import Stream
from .study import Study, describe

_IDLE_SECONDS, _PASS_SECONDS = 0.004, 0.03  # between two looks for what a prompt, or a pass, has found
_PROGRESS_SECONDS = 0.4  # how often the page is told, and freed memory given back, while slices come in
_TURN_SECONDS = 0.08  # between two tellings of which slice is shown
_FOLLOW_SECONDS = 0.25  # between two pictures of the 3D view, which shows the slices where they lie
_SHARE_SECONDS = 0.5  # between two pictures of a view during a pass: while one is drawn, nothing is computed
_log = logging.getLogger(__name__)


class App(TrameApp):
    """folder: a private one for files on their way; volume: to begin with; makeEngine: None for ProMISeCore."""

    def __init__(self, folder: str, arguments, volume=None, token: str = "", makeEngine: Callable | None = None):
        os.environ.setdefault("TRAME_ARGS", "--server")  # else trame reads our own command line
        os.environ.setdefault("WSLINK_READY_MSG", "")
        super().__init__()
        self.token = token
        self.study = Study(packs.installed(), makeEngine or (lambda pack: CoreEngine(pack.path, arguments.device)))
        self.guard = Guard(token, ("127.0.0.1", "localhost", "::1") if isLoopback(arguments.host) else ())
        self.files = Files(folder, int(arguments.max_upload * 1e6), self)
        self._news, self._shownAt, self._wasBusy = asyncio.Event(), 0.0, False
        self._turning, self._turnedViews = asyncio.Event(), set()
        self.state.update(describing.BEGINNING)
        self.state.trame__title = "ProMISe"
        self.state.packs = [describing.pack(name, pack) for name, pack in self.study.packs.items()]
        self.study.onNews = self._news.set
        self.streams = {
            name: Stream(window, name, lambda window=window: self._pace(window))
            for name, window in self.study.windows.items()
        }
        for name, window in self.study.slices.items():
            window.node.AddObserver("ModifiedEvent", lambda *_, name=name: self._turned(name))
        page.build(self)
        if volume is not None:
            self.study.open(volume)
        if arguments.pack:
            self.study.choose(packs.find(arguments.pack).stem)
        self.showAll()

    # Serving

    def serve(self, host: str, port: int) -> None:
        """Until Ctrl+C. Errors of the page's actions are shown there."""
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{port}/" + (f"?token={self.token}" if self.token else "")
        self.server.controller.on_server_ready.add(lambda **_: say(f"ProMISe is at {address} (Ctrl+C ends it)"))
        self.server.start(
            host=host, port=port, open_browser=False, show_connection_info=False, timeout=0, disable_logging=True
        )
        self.study.close()

    @controller.add("on_server_bind")
    def _bound(self, server) -> None:
        self.guard.install(server.app)
        self.files.install(server.app)

    @controller.add("on_server_ready")
    def _ready(self, **_) -> None:
        asyncio.get_running_loop().set_exception_handler(_unlessGone)
        self._tasks = [asyncio.ensure_future(stream.run()) for stream in self.streams.values()]
        self._tasks += [asyncio.ensure_future(self._attend()), asyncio.ensure_future(self._follow())]

    @controller.add("on_client_connected")
    def _connected(self, *_) -> None:
        for stream in self.streams.values():
            stream.start()

    # The session at work

    async def _attend(self) -> None:
        """Whenever there is news: pump until the session rests, then bring the page up to date."""
        while True:
            await self._news.wait()
            self._news.clear()
            with self.state, self.reporting():
                self._showSession()
            while self.study.session is not None and self.study.session.isBusy:
                session = self.study.session
                session.currentSlice = self.study.sliceOnScreen()
                with self.state, self.reporting():
                    session.pump(0)
                    self._showProgress(session)
                await asyncio.sleep(_PASS_SECONDS if self.study.isInPass else _IDLE_SECONDS)
            with self.state, self.reporting():
                self._rest()

    def _pace(self, window) -> float:
        """Seconds between two drawings of a view that nobody has the mouse in."""
        follows = _FOLLOW_SECONDS if window is self.study.volume else 0.0
        return _SHARE_SECONDS if self.study.isInPass else follows

    def _showProgress(self, session) -> None:
        self._news.clear()
        isPass = self.study.isInPass
        self._wasBusy = self._wasBusy or isPass
        self.state.busy = isPass
        if time.monotonic() - self._shownAt < _PROGRESS_SECONDS:
            return
        self._shownAt = time.monotonic()
        if isPass:
            done, total, left = session.progress
            self.state.progress = {"done": done, "total": total}
            self.say(progress.during(done, total, left))
        self._showSession()
        allocator.return_freed_memory()

    def _rest(self) -> None:
        self._news.clear()
        session = self.study.session
        if session is not None:
            if self._wasBusy:
                self.say(progress.after(*session.progress[:2], session.hint))
            elif session.hint:
                self.say(progress.sentence(session.hint))
            session.hint = ""
        self.study.isInPass = self.state.busy = self._wasBusy = False
        self.showAll()
        allocator.return_freed_memory()

    # What the page shows

    def say(self, text: str, kind: str = "info") -> None:
        """News in the one place for it. kind: info or error."""
        self.state.message = {"text": text, "kind": kind}

    def reporting(self):
        """Errors that explain themselves are shown; others too, and logged."""
        return describing.Reporting(self.say, (SessionError, PromiseError, InputError))

    def showAll(self) -> None:
        """Everything, also what takes a moment to compute."""
        self._showVolume()
        self._showSession()
        self.state.segments = describing.segments(self.study.session)
        self.state.shown3D = describing.isShown3D(self.study.session)
        for name in self.study.slices:
            self._showSlice(name)

    def _showVolume(self) -> None:
        study, node = self.study, self.study.volumeNode
        self.state.volume = {"name": node.GetName(), "what": describe(node)} if node is not None else None
        self.state.pack = study.pack
        if study.pack:
            self.state.card = catalogue.card(study.packs[study.pack].manifest)
            self.state.misfit = study.misfit(study.pack) if node is not None else ""

    def _showSession(self) -> None:
        study, session = self.study, self.study.session
        self.state.tool = study.tool
        self.state.hasSession = session is not None
        self.state.targets = list(session.targets) if session else []
        self.state.target = study.target if session else ""
        self.state.canUndo, self.state.canRedo = bool(session and session.canUndo), bool(session and session.canRedo)
        self.state.strip = describing.strip(session, study.target) if session else []
        self._showPlace()

    def _showPlace(self) -> None:
        n = self.study.sliceOnScreen()
        self.state.slice = -1 if n is None else n

    def _showSlice(self, name: str) -> None:
        self.state[f"view_{name}"] = describing.sliceView(self.study.slices[name], self.study.volumeNode)

    def _turned(self, name: str) -> None:
        """A slice view shows another slice."""
        self._turnedViews.add(name)
        self._turning.set()

    async def _follow(self) -> None:
        """Tell the page which slices are shown, a few times a second however fast they turn."""
        while True:
            await self._turning.wait()
            self._turning.clear()
            with self.state:
                while self._turnedViews:
                    self._showSlice(self._turnedViews.pop())
                self._showPlace()
            await asyncio.sleep(_TURN_SECONDS)

    # Buttons

    @trigger("do")
    def do(self, action: str, *values) -> None:
        """One of ACTIONS."""
        with self.reporting():
            self.ACTIONS[action](self, *values)
            self._news.set()

    def _turn(self, name: str, slices: int) -> None:
        self.study.slices[name].turn(slices)

    def _place(self, name: str, offset: float) -> None:
        self.study.slices[name].logic.SetSliceOffset(float(offset))

    def _fit(self, name: str) -> None:
        self.study.windows[name].fit()

    def _tryPhantom(self) -> None:
        self.study.open(phantom.heart())
        self.study.choose("heart" if "heart" in self.study.packs else self.study.pack)
        self.say("This heart is generated: not a patient, free to play with. Press Segment.")

    def _trySample(self) -> None:
        asyncio.ensure_future(self._fetchSample())

    async def _fetchSample(self) -> None:
        with self.state, self.reporting():
            self.say(f"Downloading {samples.WHAT} …")
        with self.state, self.reporting():
            volume = await asyncio.to_thread(samples.fetch, self.files.folder)
            self.study.open(volume)
            self.say(f"{samples.WHAT} is open.")
        self._news.set()

    def _deletePointed(self, name: str) -> None:
        """The control point under the mouse, as the Delete key does in Slicer."""
        if name in self.study.slices:
            self.study.slices[name].deletePointed()

    def _showSegment(self, segmentId: str, shown: bool) -> None:
        describing.show(self.study.needed(), segmentId, shown)

    def _colour(self, segmentId: str, colour: str) -> None:
        describing.colour(self.study.needed(), segmentId, colour)

    def _opacity(self, segmentId: str, value: float) -> None:
        describing.opacity(self.study.needed(), segmentId, float(value))

    def _show3D(self, shown: bool) -> None:
        self.study.show3D(shown)

    ACTIONS = {
        "phantom": _tryPhantom,
        "sample": _trySample,
        "close": lambda self: self.study.clear(),
        "pack": lambda self, name: self.study.choose(str(name)),
        "segment": lambda self: self.study.segment(),
        "cancel": lambda self: self.study.cancel(),
        "target": lambda self, name: self.study.aim(str(name)),
        "tool": lambda self, name: self.study.use(str(name)),
        "undo": lambda self: self.study.undo(),
        "redo": lambda self: self.study.redo(),
        "deleteLast": lambda self: self.study.deleteLast(),
        "deletePointed": _deletePointed,
        "lock": lambda self: self.study.lock(),
        "release": lambda self: self.study.release(),
        "propagate": lambda self, count, way: self.study.propagate(int(count), int(way)),
        "go": lambda self, n: self.study.goTo(int(n)),
        "worst": lambda self: self.study.goToWorst(),
        "turn": _turn,
        "place": _place,
        "fit": _fit,
        "showSegment": _showSegment,
        "colour": _colour,
        "opacity": _opacity,
        "show3D": _show3D,
    }


def _unlessGone(loop: asyncio.AbstractEventLoop, context: dict) -> None:
    """A page that is closed while something is sent to it is no fault; anything else is logged as usual."""
    if not isinstance(context.get("exception"), ConnectionError):
        loop.default_exception_handler(context)
