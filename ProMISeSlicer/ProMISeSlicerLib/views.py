"""Volumes, slice views and place mode, through MRML nodes only: works without a main window, leaves layouts alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import slicer

from . import mrml
from .planes import Planes

_TILTED = 0.5  # slant of 60°: one of three views at right angles is always within


def firstVolume():
    """The scene's first volume that is no label map, or None."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return next((node for node in volumes if not node.IsA("vtkMRMLLabelMapVolumeNode")), None)


def _matrix(sliceNode) -> np.ndarray:
    return slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())


def _shows(sliceNode, volumeNode) -> bool:
    """Whether a slice view has the volume as background or foreground."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if node.GetLayoutName() == sliceNode.GetLayoutName():
            return volumeNode.GetID() in (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID())
    return False


def _mapped() -> list:
    """Slice views of the current layout; all there are where it has none."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    return [node for node in nodes if node.IsMappedInLayout()] or nodes


def isShown(volumeNode) -> bool:
    return any(_shows(node, volumeNode) for node in _mapped())


def show(volumeNode) -> None:
    """In all slice views, whole."""
    slicer.util.setSliceViewerLayers(background=volumeNode, fit=True)


def select(volumeNode) -> None:
    """As the active volume, in all slice views, whole: what Slicer does with a volume that was loaded."""
    logic = slicer.app.applicationLogic()
    logic.GetSelectionNode().SetActiveVolumeID(volumeNode.GetID())
    logic.PropagateVolumeSelection(1)


def _bestView(planes: Planes, volumeNode):
    """The slice view that looks along the slices' normal best, of those that show the volume; of all where none does,
    and None without views. Where others show another patient, they do not say which slice of this one is looked at."""
    mapped = _mapped()
    matrices = {node: _matrix(node) for node in [node for node in mapped if _shows(node, volumeNode)] or mapped}

    def rank(node) -> tuple:
        return not planes.isParallel(matrices[node]), round(planes.slant(matrices[node]), 9)

    return min(matrices, key=rank, default=None)


def nearestSlice(planes: Planes, volumeNode) -> int | None:
    """The slice in the middle of the view that shows such slices best, even across them; None without views."""
    node = _bestView(planes, volumeNode)
    return None if node is None else planes.at(_matrix(node))


def sliceShown(planes: Planes, volumeNode) -> int | None:
    """The slice that a view shows in its own plane; None where no view is parallel to the slices."""
    node = _bestView(planes, volumeNode)
    return planes.at(_matrix(node)) if node is not None and planes.isParallel(_matrix(node)) else None


def align(planes: Planes, volumeNode, evenAcross: bool = False) -> None:
    """Where no view is parallel to the slices, turn the nearest one of those that show the volume to them.

    It turns about its middle, to the nearest slice, and keeps its zoom. evenAcross: also a view of another orientation,
    as where it is the only one; else those alone that are tilted against the slices.
    """
    node = _bestView(planes, volumeNode)
    if node is None or planes.isParallel(_matrix(node)) or not _shows(node, volumeNode):
        return
    if planes.slant(_matrix(node)) > _TILTED:
        if not evenAcross:
            return
        nearest = int(np.abs(planes.axes()[:3, 2]).argmax())  # the slices' normal: sagittal, coronal, axial
        (node.SetOrientationToSagittal, node.SetOrientationToCoronal, node.SetOrientationToAxial)[nearest]()
    node.RotateToAxes(mrml.matrixFromArray(planes.axes()), 2)
    node.JumpSliceByOffsetting(*planes.middle(planes.at(_matrix(node))))


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
