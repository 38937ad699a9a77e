"""Markups ⇄ prompts: per target a list of positive and one of negative control points, and an ROI.

Each control point says in its description whether it is "auto" or "user"; automatic ones are also unselected, which
gives them the paler colour. Preview points, which follow the mouse in place mode, are no prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from . import mrml, views

AUTO, USER = "auto", "user"
SOURCE = "ProMISe.source"  # attribute of an ROI node: who placed it
SHOWN = "ProMISe.shown"  # attribute of a prompt node while no session is open: "1" if it was shown in the last one
ROLE = "ProMISe.role"  # attribute of every prompt node: "positive", "negative" or "roi"
_ROLES = ("positive", "negative", "roi")


@dataclass(frozen=True)
class Point:
    """One control point. ras: (3,) world mm; id: + or - for its list, then the control point's own id there."""

    id: str
    positive: bool
    user: bool
    ras: tuple[float, float, float]


def createNodes(target: str, color, volumeNode) -> tuple:
    """The three nodes of a target: colour and shape tell positive (circle, target's colour) from negative (cross)."""
    scene = slicer.mrmlScene
    made = []
    for role in _ROLES:
        isRoi = role == "roi"
        node = scene.AddNewNodeByClass(
            "vtkMRMLMarkupsROINode" if isRoi else "vtkMRMLMarkupsFiducialNode",
            f"{volumeNode.GetName()} {target} {'ROI' if isRoi else role}",
        )
        node.CreateDefaultDisplayNodes()
        node.SetAttribute(ROLE, role)
        mrml.follow(node, volumeNode)
        _display(node, role, np.asarray(color, float))
        made.append(node)
    return tuple(made)


def _display(node, role: str, color: np.ndarray) -> None:
    display = node.GetDisplayNode()
    shown = 1 - color if role == "negative" else color
    pale = 0.5 + 0.5 * shown
    display.SetSelectedColor(*shown)
    display.SetColor(*pale)
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(False)
    if role == "roi":
        display.SetFillVisibility(False)
        display.SetHandlesInteractive(False)
    else:
        display.SetGlyphType(display.Circle2D if role == "positive" else display.ThickCross2D)
        display.SetGlyphScale(2.0)
        node.SetControlPointLabelFormat("%d")


class TargetPrompts:
    """The prompts of one target, read from and written to its three nodes."""

    def __init__(self, positive, negative, roi) -> None:
        self.positive, self.negative, self.roi = positive, negative, roi

    @property
    def nodes(self) -> tuple:
        return self.positive, self.negative, self.roi

    def hide(self) -> None:
        """Out of sight while nobody follows them; `show` brings back those that were seen, also after loading."""
        for node in self.nodes:
            if node.GetAttribute(SHOWN) is None:  # else another session has hidden them already
                node.SetAttribute(SHOWN, "1" if node.GetDisplayVisibility() else "0")
            node.SetDisplayVisibility(False)

    def show(self) -> None:
        for node in self.nodes:
            if node.GetAttribute(SHOWN) == "1":
                node.SetDisplayVisibility(True)
            node.RemoveAttribute(SHOWN)

    def points(self) -> list[Point]:
        """Every placed point of both lists."""
        found = []
        for node in (self.positive, self.negative):
            for index in range(node.GetNumberOfControlPoints()):
                if node.GetNthControlPointPositionStatus(index) == slicer.vtkMRMLMarkupsNode.PositionDefined:
                    found.append(
                        Point(
                            self._id(node, index),
                            node is self.positive,
                            node.GetNthControlPointDescription(index) != AUTO,
                            tuple(node.GetNthControlPointPositionWorld(index)),
                        )
                    )
        return found

    def add(self, ras, positive: bool, user: bool) -> str:
        """Place a point at world mm; returns its id."""
        node = self.positive if positive else self.negative
        index = node.AddControlPointWorld(vtk.vtkVector3d(*map(float, ras)), "")
        self._mark(node, index, user)
        return self._id(node, index)

    def replace(self, ids: Iterable[str], points: Iterable[tuple]) -> list[str]:
        """Take these points away and place others, given as (ras, positive, user); one modification per node.

        Returns the new points' ids, in their order.
        """
        gone = set(ids)
        with views.withoutPreview([self._list(id_) for id_ in gone]):
            states = [(node, node.StartModify()) for node in (self.positive, self.negative)]
            try:
                for node, _ in states:
                    for index in reversed(range(node.GetNumberOfControlPoints())):
                        if self._id(node, index) in gone:
                            node.RemoveNthControlPoint(index)
                return [self.add(ras, positive, user) for ras, positive, user in points]
            finally:
                for node, was in states:
                    node.EndModify(was)

    def remove(self, id_: str) -> None:
        """Take a point away."""
        node = self._list(id_)
        with views.withoutPreview([node]):
            node.RemoveNthControlPoint(node.GetNthControlPointIndexByID(id_[1:]))

    def claim(self, point: Point, ras=None) -> None:
        """The point is the user's from now on; ras: moves it there, to world mm."""
        node = self._list(point.id)
        index = node.GetNthControlPointIndexByID(point.id[1:])
        if index >= 0:
            self._mark(node, index, user=True)
            if ras is not None:
                node.SetNthControlPointPositionWorld(index, *map(float, ras))

    def disown(self, ids: Iterable[str]) -> None:
        """These points count as automatic from now on."""
        for id_ in ids:
            node = self._list(id_)
            index = node.GetNthControlPointIndexByID(id_[1:])
            if index >= 0:
                self._mark(node, index, user=False)

    def _list(self, id_: str):
        return self.positive if id_[0] == "+" else self.negative

    def _id(self, node, index: int) -> str:
        return ("+" if node is self.positive else "-") + node.GetNthControlPointID(index)

    @staticmethod
    def _mark(node, index: int, user: bool) -> None:
        description = USER if user else AUTO
        if node.GetNthControlPointDescription(index) != description:
            node.SetNthControlPointDescription(index, description)
        if bool(node.GetNthControlPointSelected(index)) != user:
            node.SetNthControlPointSelected(index, user)

    # ROI

    @property
    def hasRoi(self) -> bool:
        return self.roi.GetNumberOfDefinedControlPoints() > 0 and min(self.roi.GetSize()) > 0

    @property
    def roiIsUsers(self) -> bool:
        return self.hasRoi and self.roi.GetAttribute(SOURCE) == USER

    def roiCorners(self) -> np.ndarray | None:
        """(8, 3) world mm of the box, also oblique ones; bit b of the row number is the side along axis b."""
        if not self.hasRoi:
            return None
        matrix = mrml.arrayFromMatrix(self.roi.GetObjectToWorldMatrix())
        signs = np.array([[1 if row >> axis & 1 else -1 for axis in range(3)] for row in range(8)])
        corners = signs * np.asarray(self.roi.GetSize()) / 2
        return corners @ matrix[:3, :3].T + matrix[:3, 3]

    def drawnRoi(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centre (3,) world mm, axes (3, 3) with a unit vector per column, size (3,) mm along them."""
        matrix = mrml.arrayFromMatrix(self.roi.GetObjectToWorldMatrix())
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        return matrix[:3, 3], matrix[:3, :3] / lengths, np.asarray(self.roi.GetSize()) * lengths

    def drawRoi(self, center: np.ndarray, axes: np.ndarray, size: np.ndarray) -> None:
        """Draw a user's box as `drawnRoi` tells one; whoever watches the nodes hears of it."""
        toWorld = np.eye(4)
        toWorld[:3, :3], toWorld[:3, 3] = axes, center
        node = mrml.worldToNode(self.roi) @ toWorld
        lengths = np.linalg.norm(node[:3, :3], axis=0)
        node[:3, :3] /= lengths
        self.placeRoi(node, np.asarray(size) * lengths, USER)

    def placeRoi(self, matrix: np.ndarray, size, source: str = AUTO) -> None:
        """matrix (4, 4): box centre and axes → the node's own RAS; size (3,) mm along them."""
        was = self.roi.StartModify()
        try:
            if not self.roi.GetNumberOfControlPoints():
                self.roi.SetCenter(0.0, 0.0, 0.0)
            self.roi.SetAndObserveObjectToNodeMatrix(mrml.matrixFromArray(matrix))
            self.roi.SetSize(*map(float, size))
            self.roi.SetAttribute(SOURCE, source)
        finally:
            self.roi.EndModify(was)

    def roiState(self) -> tuple | None:
        """What `placeRoi` needs to bring this ROI back."""
        if not self.hasRoi:
            return None
        matrix = mrml.arrayFromMatrix(self.roi.GetObjectToNodeMatrix())
        return matrix, tuple(self.roi.GetSize()), self.roi.GetAttribute(SOURCE) or AUTO

    def restoreRoi(self, state: tuple | None) -> None:
        if state is None:
            self.roi.RemoveAllControlPoints()
        else:
            self.placeRoi(*state)


def hardenedRoi(state: tuple | None, matrix: np.ndarray) -> tuple | None:
    """What `restoreRoi` needs after a transform (4, 4) was hardened into the ROI."""
    if state is None:
        return None
    box, size, source = state
    box = matrix @ box
    lengths = np.linalg.norm(box[:3, :3], axis=0)
    box[:3, :3] /= lengths
    return box, tuple(np.asarray(size) * lengths), source


def crossing(corners: np.ndarray, count: int) -> dict[int, tuple[float, float, float, float]]:
    """Slices 0…count−1 that a box crosses → (row, column, row, column) hull of the cut; corners as (n, row, column).

    A slice is crossed where the box meets its middle plane; a box thinner than a slice crosses the nearest one.
    """
    edges = [(a, a | 1 << axis) for a in range(8) for axis in range(3) if not a >> axis & 1]
    low, high = corners[:, 0].min(), corners[:, 0].max()
    found = {}
    for n in range(max(0, int(np.ceil(low))), min(count - 1, int(np.floor(high))) + 1):
        cut = []
        for a, b in edges:
            (p, q), span = (corners[a], corners[b]), corners[b][0] - corners[a][0]
            if abs(span) < 1e-9:
                if abs(p[0] - n) < 1e-9:
                    cut += [p[1:], q[1:]]
            elif 0 <= (n - p[0]) / span <= 1:
                cut.append((p + (q - p) * (n - p[0]) / span)[1:])
        if cut:
            found[n] = (*np.min(cut, axis=0), *np.max(cut, axis=0))
    nearest = round((low + high) / 2)
    if not found and 0 <= nearest < count:
        found[nearest] = (*corners[:, 1:].min(axis=0), *corners[:, 1:].max(axis=0))
    return {n: tuple(float(value) for value in box) for n, box in found.items()}


class Watcher:
    """Observers on the prompt nodes: says which target's prompts may have changed, and whether a drag is under way.

    changed(target, dragging): called for every event but those of a point that follows the mouse, so it must only take
    a note; what has changed is found out by comparing, which also covers what fires unusual events (removing all
    points, undo, scripts).
    """

    def __init__(self, changed: Callable[[str, bool], None]) -> None:
        self._changed = changed
        self._tags: list[tuple] = []
        self._dragged: set[str] = set()
        self._quiet = 0

    def watch(self, target: str, prompts: TargetPrompts) -> None:
        events = slicer.vtkMRMLMarkupsNode
        for node in prompts.nodes:
            self._observe(node, events.PointStartInteractionEvent, lambda *_, n=node: self._start(target, n))
            self._observe(node, events.PointEndInteractionEvent, lambda *_, n=node: self._end(target, n))
            self._observe(node, events.PointModifiedEvent, self._modified(target))
            for event in (
                events.PointPositionDefinedEvent,
                events.PointPositionUndefinedEvent,
                events.PointRemovedEvent,
                vtk.vtkCommand.ModifiedEvent,
            ):
                self._observe(node, event, lambda *_: self._note(target))

    @contextmanager
    def quiet(self):
        """What is changed meanwhile is the session's own doing and is not told."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    def observe(self, object_, event, callback: Callable) -> None:
        """Any other observer that shall end with this watcher."""
        self._observe(object_, event, callback)

    @property
    def count(self) -> int:
        return len(self._tags)

    def close(self) -> None:
        for object_, tag in self._tags:
            object_.RemoveObserver(tag)
        self._tags.clear()
        self._dragged.clear()

    def _observe(self, object_, event, callback: Callable) -> None:
        self._tags.append((object_, object_.AddObserver(event, callback)))

    def _start(self, target: str, node) -> None:
        self._dragged.add(target)
        self._note(target)

    def _end(self, target: str, node) -> None:
        self._dragged.discard(target)
        self._note(target)

    def _modified(self, target: str) -> Callable:
        """For a point's every change; several at once, and the removal of all, come without an index."""

        @vtk.calldata_type(vtk.VTK_INT)
        def note(node, event, index=None):
            preview = slicer.vtkMRMLMarkupsNode.PositionPreview
            if index is None or node.GetNthControlPointPositionStatus(index) != preview:
                self._note(target)

        return note

    def _note(self, target: str) -> None:
        if not self._quiet:
            self._changed(target, target in self._dragged)
