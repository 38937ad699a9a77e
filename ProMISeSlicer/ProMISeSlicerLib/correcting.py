"""The section Correct: control points, the box, undo and propagation. Buttons pass on to the session."""

from __future__ import annotations

from slicer.i18n import tr as _

from . import views

_BUTTONS = ("positive", "negative", "delete", "undo", "redo", "propagate")
_NEED_SESSION = ("positive", "negative")
_NEED_SLICE = ("delete", "propagate")
_SHOWN = ("Points", "Roi", "Handles", "3D")


class CorrectionSection:
    """host: the module's widget, of which `session`, `parameterNode`, `logic`, `review`, `sliceOnScreen`, `ask`,
    `reporting` and `say` are used.
    """

    def __init__(self, ui, host) -> None:
        self.ui, self.host = ui, host
        for name in _BUTTONS:
            slot = getattr(self, "on" + name[0].upper() + name[1:])
            self.button(name).connect("clicked(bool)", slot)
        for name in _SHOWN:
            self.checkBox(name).connect("clicked(bool)", getattr(self, "onShow" + name))
        ui.targetComboBox.connect("currentIndexChanged(int)", self.onTarget)

    def button(self, name: str):
        return getattr(self.ui, name + "Button")

    def checkBox(self, name: str):
        return getattr(self.ui, f"show{name}CheckBox")

    @property
    def session(self):
        return self.host.session

    @property
    def target(self) -> str:
        return self.host.parameterNode.target

    @property
    def nodes(self) -> tuple:
        """Positive and negative control points and ROI of the target; empty without a session, and where a scene that
        is being added has brought another target."""
        isThere = self.session and self.host.parameterNode and self.target in self.session.targets
        return self.session.promptNodes(self.target) if isThere else ()

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
        combo.enabled = bool(targets)
        self.onInteractionMode()
        self.updateButtons()

    def updateButtons(self) -> None:
        for name in _NEED_SESSION:
            self.button(name).enabled = self.session is not None
        for name in _NEED_SLICE:
            self.button(name).enabled = self.host.sliceOnScreen() is not None
        self.ui.undoButton.enabled = bool(self.session and self.session.canUndo)
        self.ui.redoButton.enabled = bool(self.session and self.session.canRedo)
        nodes = self.nodes
        for name in ("Points", "Roi", "Handles"):
            self.checkBox(name).enabled = bool(nodes)
        self.ui.showPointsCheckBox.checked = any(bool(node.GetDisplayVisibility()) for node in nodes[:2])
        box = bool(nodes and nodes[2].GetDisplayVisibility())
        self.ui.showRoiCheckBox.checked = box
        self.ui.showHandlesCheckBox.checked = box and bool(nodes[2].GetDisplayNode().GetHandlesInteractive())
        segmentation = self.host.parameterNode.segmentation if self.host.parameterNode else None
        self.ui.show3DCheckBox.enabled = segmentation is not None
        self.ui.show3DCheckBox.checked = self.host.logic.is3DShown(segmentation)

    # Placing control points

    def onPositive(self, checked: bool) -> None:
        self.place(checked, 0)

    def onNegative(self, checked: bool) -> None:
        self.place(checked, 1)

    def place(self, checked: bool, which: int) -> None:
        """Switch placing on or off; the interaction node then sets both buttons."""
        if checked:
            self.nodes[which].SetDisplayVisibility(True)
            views.startPlacing(self.nodes[which])
            self.updateButtons()
        else:
            views.stopPlacing()

    def onInteractionMode(self, caller=None, event=None) -> None:
        """Placing is also switched by the toolbar, the Escape key and other modules."""
        active, nodes = views.placingNode(), self.nodes[:2] or (None, None)
        for name, node in zip(("positive", "negative"), nodes, strict=True):
            self.button(name).checked = active is not None and node is active

    def stopPlacing(self) -> None:
        """Of this session's prompts; somebody else's list may be the one that is placed."""
        session, active = self.session, views.placingNode()
        if session and any(active is node for name in session.targets for node in session.promptNodes(name)):
            views.stopPlacing()

    # Prompts

    def onTarget(self, index: int) -> None:
        if self.session and self.host.parameterNode and index >= 0:
            self.stopPlacing()
            self.host.parameterNode.target = self.session.targets[index]
            self.updateButtons()
            self.host.review.refresh()

    def onDelete(self) -> None:
        self.host.ask(self.deleteLast)

    def deleteLast(self, session) -> None:
        """The user's last point on the slice on screen."""
        if not session.target(self.target).deleteLast(self.host.sliceOnScreen()):
            self.host.say(_("You have placed no control point on this slice. To delete another one, right-click it."))

    def onUndo(self) -> None:
        self.host.ask(lambda session: session.undo())

    def onRedo(self) -> None:
        self.host.ask(lambda session: session.redo())

    def onPropagate(self) -> None:
        node = self.host.parameterNode
        count, direction = node.propagateCount or None, node.propagateDirection.value
        self.host.ask(lambda session: session.propagate(self.target, self.host.sliceOnScreen(), count, direction))

    # Display

    def onShowPoints(self, checked: bool) -> None:
        for node in self.nodes[:2]:
            node.SetDisplayVisibility(checked)

    def onShowRoi(self, checked: bool) -> None:
        for node in self.nodes[2:]:
            node.SetDisplayVisibility(checked)
        self.updateButtons()

    def onShowHandles(self, checked: bool) -> None:
        """Of a box that is shown; in other targets' boxes they would only be in the way."""
        for node in self.nodes[2:]:
            node.GetDisplayNode().SetHandlesInteractive(checked)
            if checked:
                node.SetDisplayVisibility(True)
        self.updateButtons()

    def onShow3D(self, checked: bool) -> None:
        with self.host.reporting(_("The surfaces could not be made")):
            self.host.logic.show3D(self.host.parameterNode.segmentation, checked)
