"""The buttons Segment and Cancel, and what is shown while a session has something to do."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from . import progress
from .failing import SessionError

PUMP_MS = 30


class RunSection:
    """host: the module's widget, of which `session`, `sitting`, `parameterNode`, `logic`, `choice`, `review`,
    `installation`, `sliceOnScreen`, `updateButtons`, `reporting` and `say` are used.

    Nothing is polled: the timer runs while the session is busy.
    """

    def __init__(self, ui, host) -> None:
        self.ui, self.host, self._inPass, self._reason = ui, host, False, ""
        self._shown = self._failed = (None, 0, 0)  # session, its questions and answers when it was shown, and failed
        self._failure = ""
        self.timer = qt.QTimer()
        self.timer.setInterval(PUMP_MS)
        self.timer.connect("timeout()", self.onPump)
        ui.segmentButton.connect("clicked(bool)", self.onSegment)
        ui.cancelButton.connect("clicked(bool)", self.onCancel)

    def stop(self) -> None:
        """There is nothing to do, or another session."""
        self.timer.stop()
        self.ui.progressBar.visible = self._inPass = False

    def updateButtons(self) -> None:
        """The main button says why it cannot be clicked."""
        session, node = self.host.session, self.host.parameterNode
        busy = bool(session and session.isBusy)
        reason = self.host.logic.whyNot(node.inputVolume if node else None, self.host.choice.chosen())
        reason = self.host.installation.reason or reason
        self.ui.segmentButton.enabled = not reason and not busy
        self.ui.segmentButton.toolTip = reason or _("Segment all slices, the one on screen first.")
        self.ui.segmentButton.text = _("Segment again") if session else _("Segment")
        self.ui.cancelButton.enabled = busy or self.host.installation.isDownloading
        if self.ui.statusLabel.text in ("", self._reason):  # news and errors stay
            self.host.say(reason)
        self._reason = reason

    def onSegment(self) -> None:
        with self.host.reporting(_("Segmenting could not start")):
            self.host.choice.fill()  # a pack may have become another in a terminal
            if self.host.choice.chosen() is None:
                raise SessionError(self.host.choice.absent())
            wanted = self.host.sitting.wanted
            isThere = self.host.installation.ensure(self.host.logic.missing(self.host.choice.chosen()))
            if not isThere or self.host.sitting.wanted != wanted:  # something else was chosen, or opened, meanwhile
                return
            isNew = self.host.session is None
            if isNew or self.host.choice.isOtherVersion:
                self.host.sitting.begin()
            if isNew:
                self.host.review.alignment.bring()
            self.host.session.segment(self.host.sliceOnScreen())
            self._inPass = True
            self.onSessionChanged()

    def onCancel(self) -> None:
        if self.host.installation.isDownloading:
            self.host.installation.cancel()
            return
        with self.host.reporting(_("Cancelling failed")):
            self.host.session.cancel()
            self.onPump()

    def onSessionChanged(self) -> None:
        """The session has something to do: a button was clicked, a control point was moved."""
        session = self.host.session
        session.currentSlice = self.host.sliceOnScreen()
        if not self.timer.active:
            if session.isBusy:
                self.timer.start()
            self.host.updateButtons()

    def onPump(self) -> None:
        """Take in what is done, show how far it is, and stop when nothing is left to do."""
        session, before = self.host.session, self.ui.statusLabel.text
        with self.host.reporting(_("Segmenting failed")):
            found = session.pump()
            if self.isNew or self._inPass or session.isBusy:
                self.showProgress(*found)
        if self.ui.statusLabel.text != before and self.ui.statusLabel.text.startswith("⚠"):
            self._failure, self._failed = self.ui.statusLabel.text, self._counts()
        self.afterPump()

    def afterPump(self) -> None:
        """Nothing is drawn again where only a point follows the mouse."""
        session, shown = self.host.session, self.host.parameterNode is not None
        if session and session.isBusy:
            if shown:
                self.host.review.refreshWhileBusy()
            return
        self.stop()
        if shown:
            if self.isNew:
                self._shown = self._counts()
                self.host.review.refresh()
            self.host.updateButtons()

    def _counts(self) -> tuple:
        session = self.host.session
        return (session, session.questions, session.answers) if session else (None, 0, 0)

    @property
    def isNew(self) -> bool:
        """Whether anything was asked or answered since the session was shown at rest."""
        return self._counts() != self._shown

    def showProgress(self, done: int, total: int, secondsLeft: float | None) -> None:
        """done and total: slices of the pass; left open where it was cancelled."""
        session = self.host.session
        progress.show(self.ui.progressBar, done, total, session.isBusy)
        if session.isBusy:
            if done < total:
                self._inPass = True
                self.host.say(progress.during(done, total, secondsLeft))
        elif self._inPass:
            self._inPass = False
            self.host.say(progress.after(done, total, session.hint))
        elif session.hint:
            self.host.say(progress.sentence(session.hint))
        elif not self.isWarning():
            self.host.say(_("The segment is up to date."))

    def isWarning(self) -> bool:
        """Whether what is said has to stay: a warning, unless it was of a prompt step before the last one."""
        text, (session, questions) = self.ui.statusLabel.text, self._failed[:2]
        isOver = text == self._failure and session is self.host.session and session.questions > questions
        return text.startswith("⚠") and not isOver
