"""Stand-ins for the few CTK and MRML widgets that the panel uses; members are those of their C++ headers, no others."""

from __future__ import annotations

import sys
import types
import weakref

from PySide6 import QtCore, QtWidgets

from slicer_double.pythonqt import stands_for_cpp, stored_property

Signal = QtCore.Signal


_TITLE, _UNLIMITED = 26, (1 << 24) - 1  # pixels


def _paint_control(widget, option, label, text: str) -> None:
    """Looks like the Qt control that the real widget shows."""
    painter = QtWidgets.QStylePainter(widget)
    option.initFrom(widget)
    if label == QtWidgets.QStyle.CE_ComboBoxLabel:
        option.currentText, option.editable = text, False
        painter.drawComplexControl(QtWidgets.QStyle.CC_ComboBox, option)
    else:
        option.text = widget.fontMetrics().elidedText(text, QtCore.Qt.ElideMiddle, widget.width - 12)
    painter.drawControl(label, option)


_BOUND: weakref.WeakSet = weakref.WeakSet()  # widgets that observe a scene


def detach() -> None:
    """No widget observes a scene any more: a scene must not be collected while one does."""
    for widget in list(_BOUND):
        widget.setMRMLScene(None)
    _BOUND.clear()


@stands_for_cpp
class ctkCollapsibleButton(QtWidgets.QWidget):
    """A title above contents that are hidden while it is collapsed."""

    contentsCollapsed = Signal(bool)
    text = stored_property(str, "")
    flat = stored_property(bool, False)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self.setContentsMargins(0, _TITLE, 0, 0)

    def _collapsed(self) -> bool:
        return self.__dict__.get("_is_collapsed", False)

    def _collapse(self, collapsed: bool) -> None:
        if collapsed != self._collapsed():
            self.__dict__["_is_collapsed"] = collapsed
            self.setMaximumHeight(_TITLE if collapsed else _UNLIMITED)
            self.contentsCollapsed.emit(collapsed)

    collapsed = QtCore.Property(bool, _collapsed, _collapse)

    def paintEvent(self, event) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, _TITLE)
        if self.flat:
            option.features = QtWidgets.QStyleOptionButton.Flat
        painter.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, option)
        painter.drawText(8, _TITLE - 8, f"{'▸' if self.collapsed else '▾'} {self.text}")


@stands_for_cpp
class ctkDirectoryButton(QtWidgets.QWidget):
    """A button with the folder's path; clicking it would open a dialog."""

    directoryChanged = Signal(str)
    directory = stored_property(str, "", "directoryChanged")
    caption = stored_property(str, "")

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self.setMinimumHeight(_TITLE)

    def paintEvent(self, event) -> None:
        _paint_control(self, QtWidgets.QStyleOptionButton(), QtWidgets.QStyle.CE_PushButton, self.directory)


@stands_for_cpp
class qMRMLWidget(QtWidgets.QWidget):
    """The top of every module panel: passes the scene on."""

    mrmlSceneChanged = Signal(object)
    vtkSignals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def setMRMLScene(self, scene) -> None:
        self.__dict__["_scene"] = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return self.__dict__.get("_scene")


@stands_for_cpp
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Lists the nodes of a real scene and follows additions, removals and closing."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    vtkSignals = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
    }
    noneEnabled = stored_property(bool, False)
    addEnabled = stored_property(bool, True)
    removeEnabled = stored_property(bool, True)
    renameEnabled = stored_property(bool, False)
    editEnabled = stored_property(bool, False)
    showHidden = stored_property(bool, False)
    showChildNodeTypes = stored_property(bool, True)
    selectNodeUponCreation = stored_property(bool, True)
    baseName = stored_property(str, "")
    noneDisplay = stored_property(str, "None")
    hideChildNodeTypes = stored_property("QStringList", ())

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self.setMinimumHeight(_TITLE)

    def paintEvent(self, event) -> None:
        node = self.currentNode()
        text = self.noneDisplay if node is None else node.GetName()
        _paint_control(self, QtWidgets.QStyleOptionComboBox(), QtWidgets.QStyle.CE_ComboBoxLabel, text)

    def _types(self) -> list[str]:
        return list(self.__dict__.get("_nodeTypes", ()))

    def _setTypes(self, names) -> None:
        self.__dict__["_nodeTypes"] = list(names)
        self._update()

    nodeTypes = QtCore.Property("QStringList", _types, _setTypes)

    def setMRMLScene(self, scene) -> None:
        for old, tag in self.__dict__.get("_tags", ()):
            old.RemoveObserver(tag)
        self.__dict__.update(_scene=scene, _tags=[])
        if scene is not None:
            _BOUND.add(self)
            reference = weakref.ref(self)

            def follow(*_) -> None:
                if reference() is not None:
                    reference()._update()

            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent)
            self.__dict__["_tags"] = [(scene, scene.AddObserver(event, follow)) for event in events]
        self._update()

    def mrmlScene(self):
        return self.__dict__.get("_scene")

    def _nodes(self) -> list:
        scene, found = self.mrmlScene(), []
        for name in self._types() if scene is not None else ():
            for index in range(scene.GetNumberOfNodesByClass(name)):
                node = scene.GetNthNodeByClass(index, name)
                own = node.GetClassName() == name
                child = self.showChildNodeTypes and not any(node.IsA(hidden) for hidden in self.hideChildNodeTypes)
                if (own or child) and (self.showHidden or not node.GetHideFromEditors()) and node not in found:
                    found.append(node)
        return found

    def _update(self) -> None:
        nodes = self._nodes()
        if self.currentNode() is not None and self.currentNode() not in nodes:
            self._select(None)
        if self.currentNode() is None and nodes and not self.noneEnabled:
            self._select(nodes[0])

    def _select(self, node) -> None:
        if node is not self.currentNode():
            self.__dict__["_current"] = node
            self.currentNodeChanged.emit(node)
            self.currentNodeIDChanged.emit(node.GetID() if node else "")

    def currentNode(self):
        return self.__dict__.get("_current")

    def setCurrentNode(self, node) -> None:
        self._select(node if node in self._nodes() else None)

    def nodeCount(self) -> int:
        return len(self._nodes())

    def addNode(self):
        node = self.mrmlScene().AddNewNodeByClass(self._types()[0], self.baseName)
        if self.selectNodeUponCreation:
            self._select(node)
        return node


def install(slicer: types.ModuleType) -> types.ModuleType:
    """Put them where scripts look for them; returns the module `ctk`."""
    ctk = types.ModuleType("ctk")
    for cls in (ctkCollapsibleButton, ctkDirectoryButton):
        setattr(ctk, cls.__name__, cls)
    for cls in (qMRMLWidget, qMRMLNodeComboBox):
        setattr(slicer, cls.__name__, cls)
    return sys.modules.setdefault("ctk", ctk)
