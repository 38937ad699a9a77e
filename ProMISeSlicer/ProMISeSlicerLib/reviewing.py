"""The section Review: how far each slice can be trusted, going from slice to slice, locking and releasing."""

from __future__ import annotations

import time

from slicer.i18n import tr as _

from . import views
from .aligning import Alignment
from .strip import SliceStrip, describe, legend

_REFRESH_S = 0.4  # between two looks at all slices while a pass is running
_BUTTONS = ("lock", "release", "nextWorst")


def _settled(states: list[dict]) -> list[dict]:
    """Agreement with a neighbour that is still to be segmented says nothing."""
    open_ = {index for index, state in enumerate(states) if state["state"] == "todo"}
    return [
        state | {"agreement": None} if {index - 1, index + 1} & open_ else state for index, state in enumerate(states)
    ]


class ReviewSection:
    """host: the module's widget, of which `session`, `parameterNode`, `logic`, `correction`, `sliceOnScreen`, `ask`,
    `reporting` and `say` are used.
    """

    def __init__(self, ui, host) -> None:
        self.ui, self.host, self.states, self._refreshed = ui, host, [], 0.0
        self.strip, self.alignment = SliceStrip(ui.sliceStrip, self.goTo), Alignment(ui, host)
        ui.legendLabel.text = legend()
        for name in _BUTTONS:
            slot = getattr(self, "on" + name[0].upper() + name[1:])
            getattr(ui, name + "Button").connect("clicked(bool)", slot)

    def refresh(self) -> None:
        """Every slice as it is now."""
        session = self.host.session
        shown = session is not None and self.host.parameterNode is not None
        self.states = _settled(session.sliceStates(self.host.parameterNode.target)) if shown else []
        self._refreshed = time.monotonic()
        self.strip.show(self.states)
        self.ui.sliceStrip.visible = self.ui.legendLabel.visible = bool(self.states)
        self.onSliceShown()

    def refreshWhileBusy(self) -> None:
        if time.monotonic() - self._refreshed > _REFRESH_S:
            self.refresh()

    def onSliceShown(self, caller=None, event=None) -> None:
        """A slice view shows another slice."""
        shown = self.host.sliceOnScreen() if self.states else None
        self.alignment.show(bool(self.states) and shown is None)
        self.strip.mark(shown)
        state = self.states[shown] if shown is not None else None
        if state:
            self.ui.reviewLabel.text = describe(shown, state)
        else:
            self.ui.reviewLabel.text = self.alignment.reason if self.states else _("Nothing is segmented yet.")
        whose = state["state"] if state else "todo"
        self.ui.lockButton.enabled = whose in ("auto", "user")
        self.ui.releaseButton.enabled = whose in ("locked", "user")
        self.ui.nextWorstButton.enabled = bool(self.states)

    def onLock(self) -> None:
        self.host.ask(lambda session: session.lock(self.host.sliceOnScreen()))

    def onRelease(self) -> None:
        self.host.ask(lambda session: session.release(self.host.sliceOnScreen()))

    def onNextWorst(self) -> None:
        self.host.ask(self.goToWorst)

    def goToWorst(self, session) -> None:
        worst = session.nextWorstSlice(self.host.parameterNode.target)
        if worst is None:
            self.host.say(_("No automatic slice is left to look at: all are corrected, locked or empty."))
        else:
            self.goTo(worst)

    def goTo(self, index: int) -> None:
        """Show a slice in the views, in its own plane in one of them."""
        if self.host.session:
            self.host.logic.alignViews(self.host.session)
            views.jump(self.host.session.sliceCenter(index))
            self.onSliceShown()
