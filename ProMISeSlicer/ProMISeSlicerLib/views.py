"""Volumes, slice views and place mode, through MRML nodes only: works without a main window, leaves layouts alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import slicer


def firstVolume():
    """The scene's first volume that is no label map, or None."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return next((node for node in volumes if not node.IsA("vtkMRMLLabelMapVolumeNode")), None)


def onScreen(first, last) -> np.ndarray | None:
    """(3,) world mm: the middle of a slice view, of the one that looks along first → last best; None without views.

    first, last: middles of a stack's first and last slice, world mm; the same for a single slice.
    """
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    nodes = [node for node in nodes if node.IsMappedInLayout()] or nodes
    matrices = [slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()) for node in nodes]
    way = np.subtract(last, first)
    matrices.sort(key=lambda matrix: -abs(float(np.dot(matrix[:3, 2] / np.linalg.norm(matrix[:3, 2]), way))))
    return matrices[0][:3, 3].copy() if matrices else None


def jump(ras) -> None:
    """All slice views move to a point, world mm, along their normals; they are not panned or zoomed."""
    node = slicer.vtkMRMLSliceNode
    node.JumpAllSlices(slicer.mrmlScene, *map(float, ras), node.OffsetJumpSlice)


def _interaction():
    return slicer.app.applicationLogic().GetInteractionNode()


def startPlacing(markupsNode) -> None:
    """Every click in a view adds a control point to the node, until `stopPlacing` or Escape."""
    logic = slicer.modules.markups.logic()
    logic.SetActiveList(markupsNode)
    logic.StartPlaceMode(True)


def stopPlacing() -> None:
    interaction = _interaction()
    if interaction.GetCurrentInteractionMode() == interaction.Place:
        interaction.SetCurrentInteractionMode(interaction.ViewTransform)


def placingNode():
    """The node that clicks in views add control points to, or None outside place mode."""
    interaction = _interaction()
    if interaction.GetCurrentInteractionMode() != interaction.Place:
        return None
    selection = slicer.app.applicationLogic().GetSelectionNode()
    return slicer.mrmlScene.GetNodeByID(selection.GetActivePlaceNodeID() or "")


@contextmanager
def withoutPreview(markupsNodes: Iterable) -> Iterator[None]:
    """While control points of these nodes go, none follows the mouse: its widget counts on the others' numbers."""
    active, interaction = placingNode(), _interaction()
    isPlacing = any(node is active for node in markupsNodes)
    if isPlacing:
        stopPlacing()
    try:
        yield
    finally:
        if isPlacing:
            interaction.SetCurrentInteractionMode(interaction.Place)
