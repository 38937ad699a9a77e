"""The sections Prompts and Review: buttons that pass on to the session, and what they show of it."""

from __future__ import annotations

from slicer.i18n import tr as _

from . import views
from .strip import SliceStrip, describe

_BUTTONS = ("positive", "negative", "undo", "redo", "lock", "release", "propagate", "nextWorst")
_NEED_SESSION = ("positive", "negative", "lock", "release", "propagate", "nextWorst")


class CorrectionSection:
    """host: the module's widget, of which `session`, `parameterNode`, `sliceOnScreen`, `reporting`, `say` and
    `onSessionChanged` are used.
    """

    def __init__(self, ui, host) -> None:
        self.ui, self.host = ui, host
        self.strip = SliceStrip(ui.sliceStrip, self.onSlice)
        for name in _BUTTONS:
            slot = getattr(self, "on" + name[0].upper() + name[1:])
            self.button(name).connect("clicked(bool)", slot)
        ui.targetComboBox.connect("currentIndexChanged(int)", self.onTarget)

    def button(self, name: str):
        return getattr(self.ui, name + "Button")

    @property
    def session(self):
        return self.host.session

    @property
    def target(self) -> str:
        return self.host.parameterNode.target

    # Shown

    def refresh(self) -> None:
        """Another session, or none."""
        combo, targets = self.ui.targetComboBox, list(self.session.targets) if self.session else []
        combo.blockSignals(True)
        combo.clear()
        for target in targets:
            combo.addItem(target)
        if targets:
            combo.setCurrentIndex(targets.index(self.target) if self.target in targets else 0)
            self.host.parameterNode.target = targets[combo.currentIndex]
        combo.blockSignals(False)
        self.showStates()
        self.onInteractionMode()

    def updateButtons(self) -> None:
        for name in _NEED_SESSION:
            self.button(name).enabled = self.session is not None
        self.ui.undoButton.enabled = bool(self.session and self.session.canUndo)
        self.ui.redoButton.enabled = bool(self.session and self.session.canRedo)

    def showStates(self) -> None:
        self.strip.show(self.session.sliceStates(self.target) if self.session else [])

    # Placing control points

    def onPositive(self, checked: bool) -> None:
        self.place(checked, 0)

    def onNegative(self, checked: bool) -> None:
        self.place(checked, 1)

    def place(self, checked: bool, which: int) -> None:
        """Switch placing on or off; the interaction node then sets both buttons."""
        if checked:
            views.startPlacing(self.session.promptNodes(self.target)[which])
        else:
            views.stopPlacing()

    def onInteractionMode(self, caller=None, event=None) -> None:
        """Placing is also switched by the toolbar, the Escape key and other modules."""
        active = views.placingNode()
        nodes = self.session.promptNodes(self.target) if self.session and self.host.parameterNode else (None, None)
        for name, node in zip(("positive", "negative"), nodes[:2], strict=True):
            self.button(name).checked = active is not None and node is active

    def stopPlacing(self) -> None:
        views.stopPlacing()

    # Prompts

    def onTarget(self, index: int) -> None:
        if self.session and self.host.parameterNode and index >= 0:
            views.stopPlacing()
            self.host.parameterNode.target = self.session.targets[index]
            self.showStates()

    def onUndo(self) -> None:
        self.ask(lambda session: session.undo())

    def onRedo(self) -> None:
        self.ask(lambda session: session.redo())

    def onLock(self) -> None:
        self.ask(lambda session: session.lock(self.host.sliceOnScreen()))

    def onRelease(self) -> None:
        self.ask(lambda session: session.release(self.host.sliceOnScreen()))

    def onPropagate(self) -> None:
        node = self.host.parameterNode
        count, direction = node.propagateCount or None, node.propagateDirection.value
        self.ask(lambda session: session.propagate(self.target, self.host.sliceOnScreen(), count, direction))

    def onNextWorst(self) -> None:
        self.ask(self.goToWorst)

    def goToWorst(self, session) -> None:
        worst = session.nextWorstSlice(self.target)
        if worst is None:
            self.host.say(_("All slices were corrected or looked at."))
        else:
            self.onSlice(worst)

    def onSlice(self, index: int) -> None:
        """Show a slice in the views, and what is known about it."""
        if self.session:
            views.jump(self.session.sliceCenter(index))
            self.ui.reviewLabel.text = describe(index, self.session.sliceStates(self.target)[index])
            self.ui.sliceStrip.setCurrentCell(0, index)

    def ask(self, action) -> None:
        """Let the session do something, then show what came of it."""
        with self.host.reporting(_("That did not work")):
            action(self.session)
            self.showStates()
            self.host.onSessionChanged()
