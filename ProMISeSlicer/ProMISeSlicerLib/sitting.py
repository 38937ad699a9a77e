"""The panel's one session: kept while it is what is chosen, ended when that changes, and taken up again with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import qt
import slicer
from slicer.i18n import tr as _

from . import resuming
from .source import ResizedError
from .state import findSession

_DRAIN_MS = 30
_LEND_S = 0.02  # Python threads run only while the main thread lends them the interpreter


class Wanted(NamedTuple):
    """What is chosen in the panel. axis: "" for the pack's own; pack: a file's stem, "" for any that suits."""

    volume: object
    segmentation: object
    axis: str
    pack: str


class Sitting:
    """host: the module's widget, of which `logic`, `parameterNode`, `choice`, `run`, `correction`, `showSession`,
    `updateButtons`, `reporting` and `say` are used.

    Nobody else begins or ends a session: whoever changes what is chosen calls `reconcile`.
    """

    def __init__(self, host) -> None:
        self.host, self.session = host, None
        self.pack = ""  # of the session: its file's stem
        self._seen: Wanted | None = None  # None where nothing of this scene was seen yet
        self._left: dict[tuple[str, str | None], str] = {}  # node IDs: volume's, and slices → last segmentation's
        self._isSettling = False
        self._ending: list = []  # sessions whose threads are still at a step
        self._timer = qt.QTimer()
        self._timer.setInterval(_DRAIN_MS)
        self._timer.connect("timeout()", self._drain)

    @property
    def wanted(self) -> Wanted | None:
        """None while the panel shows no parameters."""
        node = self.host.parameterNode
        return None if node is None else Wanted(node.inputVolume, node.segmentation, node.slices.value, node.pack)

    # What others call

    def reconcile(self, again: bool = False) -> None:
        """Something may have been chosen: the session goes on if it is that, else another is taken up, or none.

        again: look for a saved one also where nothing else was chosen, as when the module is opened.
        """
        if self._isSettling or self.wanted is None or slicer.mrmlScene.IsImporting():
            return
        seen = self._seen
        if self.wanted == seen and (self.session is not None or not again):
            return
        with self._settling(), self.host.reporting(_("The saved session cannot go on")):
            if seen is not None:
                self.host.parameterNode.segmentation = self._segmentation(seen, self.wanted)
            wanted = self.wanted
            if self.session is not None and self._serves(wanted):
                return
            self.end()
            isLook = seen is not None and wanted._replace(pack=seen.pack) == seen  # at a pack, which stays chosen
            self._takeUp(wanted, otherPacks=not isLook)

    def begin(self) -> None:
        """A session on what is chosen, with the pack as it is listed: where one has worked there with that pack,
        whatever its version, the user's slices and prompts stay. Raises SessionError for what cannot be used."""
        wanted, pack = self.wanted, self.host.choice.chosen()
        self.end()
        session = self.host.logic.makeSession(wanted.volume, pack, wanted.segmentation, wanted.axis or None)
        with self._settling():
            self._take(session, pack)

    def renew(self) -> None:
        """What computes is set otherwise: the session goes on with that."""
        self.end()
        self.reconcile(again=True)

    def end(self) -> None:
        """The session ends, its results stay; a pass that was running is said to have ended."""
        if self.session is None:
            return
        session = self.session
        self.host.correction.stopPlacing()
        self.session = None
        self.host.run.stop()
        if session.isInPass:
            text = _("Segmenting {name} was ended. {done} of {total} slices are done and stay.")
            done, total, _seconds = session.progress
            self.host.say(text.format(name=session.volumeNode.GetName(), done=done, total=total))
        if not session.close(0):
            self._ending.append(session)
            self._timer.start()
        if self.host.parameterNode is not None:
            self.host.showSession()
            self.host.updateButtons()

    def lose(self, node) -> None:
        """A node goes: it is no longer what was chosen, and is not kept alive."""
        if self._seen is not None:
            self._seen = Wanted(*(None if value is node else value for value in self._seen))

    def forget(self) -> None:
        """The scene is closed: nothing of it stays, and what comes is chosen by whatever is opened next."""
        if self.session is not None:
            self.end()
            self.host.say("")
        self._seen = None
        self._left.clear()

    def close(self) -> None:
        """The module goes: end, and wait for the threads."""
        self.end()
        self._timer.stop()
        for session in self._ending:
            session.close()
        self._ending = []

    # How it comes about

    def _segmentation(self, seen: Wanted, wanted: Wanted):
        """The one to work in: another volume and other slices have another, unless one was chosen with them."""
        self._leave(seen)
        if wanted.segmentation is not seen.segmentation:
            return wanted.segmentation
        if wanted.volume is not seen.volume:
            return self.segmentationFor(wanted.volume, wanted.segmentation)
        isOwn = wanted.segmentation is None or self.host.logic.savedSession(wanted.volume, wanted.segmentation)
        if wanted.axis != seen.axis and isOwn:
            return self._worked(wanted.volume, wanted.axis)
        return wanted.segmentation

    def _leave(self, seen: Wanted) -> None:
        """Who comes back, to the volume or to such slices of it, finds the same segmentation."""
        if None not in (seen.volume, seen.segmentation):
            for axis in (None, seen.axis):
                self._left[seen.volume.GetID(), axis] = seen.segmentation.GetID()

    def _worked(self, volume, axis: str | None = None):
        """The segmentation that was last worked in on a volume; axis: in such slices."""
        last = None if volume is None else self._left.get((volume.GetID(), axis))
        return self.host.logic.segmentationOf(volume, axis, last)

    def segmentationFor(self, volume, chosen):
        """The one to work in on another volume: one that no session has made stays chosen."""
        if chosen is not None and findSession(chosen) is None:
            return chosen
        return self._worked(volume)

    def _serves(self, wanted: Wanted) -> bool:
        session = self.session
        mine = Wanted(session.volumeNode, session.segmentationNode, session.axis or "", wanted.pack and self.pack)
        return not session.isClosed and mine == wanted

    def _takeUp(self, wanted: Wanted, otherPacks: bool) -> None:
        """The session that was saved with these nodes. otherPacks: also that of another pack, which is then chosen."""
        chosen = self.host.choice.chosen()
        name = chosen.manifest.name if chosen is not None else wanted.pack
        saved = self.host.logic.savedSession(wanted.volume, wanted.segmentation, name)
        if saved is None or (wanted.pack and not otherPacks and resuming.packOf(saved) != name):
            return
        self._take(*self.host.logic.resumeSession(saved))

    def _take(self, session, pack) -> None:
        node, self.pack = self.host.parameterNode, pack.path.stem
        node.segmentation, node.pack = session.segmentationNode, self.pack
        node.slices = type(node.slices)(session.axis or "")
        self.session = session
        session.onActivity, session.onClosed = self.host.run.onSessionChanged, self._onClosed
        self.host.showSession()
        self.host.run.onSessionChanged()  # an answer may still be awaited

    @contextmanager
    def _settling(self) -> Iterator[None]:
        """What is chosen meanwhile is the sitting's own doing."""
        before, self._isSettling = self._isSettling, True
        try:
            yield
        finally:
            self._isSettling = before
            self._seen = self.wanted or self._seen

    def _onClosed(self, why: Exception) -> None:
        """The session has closed itself: its nodes went, or its volume is another."""
        self.end()
        self.host.say(str(why))
        if isinstance(why, ResizedError):
            with self._settling():  # its voxels are others: the next session gets its own, also while nothing is shown
                self.host.logic.getParameterNode().segmentation = None

    def _drain(self) -> None:
        self._ending = [session for session in self._ending if not session.close(_LEND_S)]
        if not self._ending:
            self._timer.stop()
