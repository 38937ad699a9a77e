"""Between MRML and the core: volume node → voxels and affine, world mm ⇄ (I, J, K), whose voxels a labelmap's are.

A point is kept in world RAS mm by markups, in (I, J, K) by volumes and as (slice, row, column) by the core. Parent
transforms, linear or not, are part of the way from world to (I, J, K); from there `sliceGrid` goes on to slices, and
`segments` has masks, which stay on the volume's own voxels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from . import hierarchy

TARGET_TAG = "ProMISe.target"
_SAME = 1e-3  # voxels by which two grids may differ and still be the same


class GeometryError(Exception):
    """A node cannot be used as it is; the message says why and what to do."""


def arrayFromMatrix(matrix) -> np.ndarray:
    """vtkMatrix4x4 → (4, 4) float64."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrixFromArray(array: np.ndarray):
    """(4, 4) → vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(array[row, column]))
    return matrix


# Volume nodes


def voxelsOf(volumeNode) -> np.ndarray:
    """A copy of the voxels: (K, J, I), or (K, J, I, 3) for colour. Raises GeometryError for what cannot be used."""
    name = volumeNode.GetName()
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise GeometryError(f"the volume {name!r} holds no voxels; load or choose another one")
    voxels = np.array(slicer.util.arrayFromVolume(volumeNode))
    if voxels.ndim == 4:
        if voxels.shape[3] not in (1, 3, 4):
            raise GeometryError(f"the volume {name!r} has {voxels.shape[3]} components; 1 or 3 (colour) can be used")
        voxels = np.ascontiguousarray(voxels[..., 0] if voxels.shape[3] == 1 else voxels[..., :3])
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise GeometryError(f"the volume {name!r} holds NaN or infinite values; replace them first")
    return voxels


def ijkToRas(volumeNode) -> np.ndarray:
    """(4, 4): (I, J, K) → RAS mm of the node itself, without its parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return arrayFromMatrix(matrix)


def _toWorld(node) -> np.ndarray | None:
    """(4, 4) from the node's space to the world, or None where a parent transform is not linear."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        return None
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return arrayFromMatrix(matrix)


def worldToNode(node) -> np.ndarray:
    """(4, 4) from the world to the node's own space; the unit matrix where a parent transform is not linear."""
    toWorld = _toWorld(node)
    return np.eye(4) if toWorld is None else np.linalg.inv(toWorld)


def affineOf(volumeNode) -> np.ndarray:
    """(4, 4) for the core: (I, J, K) → world RAS mm; → the node's own RAS where a parent transform is not linear."""
    toWorld = _toWorld(volumeNode)
    local = ijkToRas(volumeNode)
    return local if toWorld is None else toWorld @ local


def isPicture(volumeNode) -> bool:
    """Whether it is a 2D colour picture, which has no anatomical orientation."""
    image = volumeNode.GetImageData()
    return image is not None and image.GetNumberOfScalarComponents() >= 3 and image.GetDimensions()[2] == 1


def worldToIjk(volumeNode, points: np.ndarray) -> np.ndarray:
    """(N, 3) world RAS mm → (N, 3) fractional (I, J, K)."""
    points = np.asarray(points, float).reshape(-1, 3)
    toWorld = _toWorld(volumeNode)
    if toWorld is None:
        moved = np.zeros(3)
        local = np.array([(volumeNode.TransformPointFromWorld(point, moved), moved.copy())[1] for point in points])
        points, toWorld = local.reshape(-1, 3), np.eye(4)
    affine = toWorld @ ijkToRas(volumeNode)
    return np.linalg.solve(affine[:3, :3], (points - affine[:3, 3]).T).T


def ijkToWorld(volumeNode, points: np.ndarray) -> np.ndarray:
    """(N, 3) fractional (I, J, K) → (N, 3) world RAS mm."""
    points = np.asarray(points, float).reshape(-1, 3)
    local = ijkToRas(volumeNode)
    toWorld = _toWorld(volumeNode)
    if toWorld is not None:
        affine = toWorld @ local
        return points @ affine[:3, :3].T + affine[:3, 3]
    moved = np.zeros(3)
    own = points @ local[:3, :3].T + local[:3, 3]
    return np.array([(volumeNode.TransformPointToWorld(point, moved), moved.copy())[1] for point in own]).reshape(-1, 3)


# Segmentation nodes


def createSegmentation(volumeNode, name: str):
    """A segmentation node on the volume's grid, under the same parent transform and beside it in the Data module."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    prepare(node, volumeNode)
    hierarchy.putBeside(node, volumeNode)
    return node


def prepare(node, volumeNode) -> None:
    """Make sure that a segmentation node is drawn; one without segments comes onto the volume's grid, under its parent
    transform. Slicer's node selectors add nodes that have nothing but a name."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    if node.GetSegmentation().GetNumberOfSegments() == 0:
        follow(node, volumeNode)  # first: the geometry, in which voxels are saved, is that between the two nodes
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)


def follow(node, volumeNode) -> None:
    """Put a node under the volume's parent transform."""
    if node.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())


def voxelOrder(image, volumeNode) -> tuple[np.ndarray, np.ndarray] | None:
    """A labelmap's indices to the volume's (I, J, K): turn (3, 3), a signed permutation, and whole offset (3,).

    None where the labelmap's voxels are not the volume's.
    """
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    between = np.linalg.solve(ijkToRas(volumeNode), arrayFromMatrix(matrix))[:3]
    turn, offset = np.rint(between[:, :3]).astype(int), np.rint(between[:, 3]).astype(int)
    isPermutation = (np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all()
    bend = np.abs(between[:, :3] - turn).max() * max(volumeNode.GetImageData().GetDimensions())
    if not isPermutation or bend >= 0.5 or np.abs(between[:, 3] - offset).max() > _SAME * 100:
        return None
    return turn, offset


def isOnVoxels(segmentationNode, volumeNode) -> bool:
    """Whether a segmentation's voxels are the volume's: on its grid, and none beyond it. False for one without any."""
    if volumeNode.GetImageData() is None or segmentationNode.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        return False
    segmentation, last = segmentationNode.GetSegmentation(), np.array(volumeNode.GetImageData().GetDimensions()) - 1
    images: list = []  # several segments share one
    for segmentId in segmentation.GetSegmentIDs():
        image = segmentation.GetSegment(segmentId).GetRepresentation("Binary labelmap")
        if image is not None and image.GetNumberOfPoints() and image not in images:
            images.append(image)
    return bool(images) and all(_isWithin(image, volumeNode, last) for image in images)


def _isWithin(image, volumeNode, last: np.ndarray) -> bool:
    """last: the volume's last (I, J, K)."""
    order = voxelOrder(image, volumeNode)
    if order is None:
        return False
    turn, offset = order
    corners = np.reshape(image.GetExtent(), (3, 2)).T @ turn.T + offset
    return bool((corners.min(0) >= 0).all() and (corners.max(0) <= last).all())


def targetOf(segment) -> str:
    """The target that a segment was made for, as copies and .seg.nrrd files tell it, too; "" for one of the user's."""
    tag = vtk.mutable("")
    return str(tag) if segment.GetTag(TARGET_TAG, tag) else ""


def segmentOnVolume(segmentationNode, segmentId: str, volumeNode) -> np.ndarray:
    """(K, J, I) bool: a segment on the volume's voxels, whatever its own grid, transform or representation is.

    A copy; no node is changed or added. Raises GeometryError where the segment cannot be turned into a labelmap.
    """
    image, size = volumeNode.GetImageData(), volumeNode.GetImageData().GetDimensions()
    reference, found = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetDimensions(size)
    reference.SetGeometryFromImageToWorldMatrix(matrixFromArray(ijkToRas(volumeNode)))
    labelmap = _labelmap(segmentationNode, segmentId, reference)
    if labelmap.GetNumberOfPoints() == 0 or labelmap.GetPointData().GetScalars() is None:
        return np.zeros(image.GetDimensions()[::-1], bool)
    way = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        segmentationNode.GetParentTransformNode(), volumeNode.GetParentTransformNode(), way
    )
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    if not resample(labelmap, reference, found, False, False, way):
        name = segmentationNode.GetSegmentation().GetSegment(segmentId).GetName()
        raise GeometryError(f"the segment {name!r} cannot be brought onto the voxels of {volumeNode.GetName()!r}")
    return vtk_to_numpy(found.GetPointData().GetScalars()).reshape(size[::-1]) != 0


def _labelmap(segmentationNode, segmentId: str, reference):
    """A segment's own labelmap, 0 and 1; of a surface, one made of a copy on the grid of `reference`."""
    labelmap = slicer.vtkOrientedImageData()
    if segmentationNode.GetBinaryLabelmapRepresentation(segmentId, labelmap):
        return labelmap
    converter, copy = slicer.vtkSegmentationConverter, slicer.vtkSegmentation()
    copy.DeepCopy(segmentationNode.GetSegmentation())
    geometry = converter.SerializeImageGeometry(reference)
    copy.SetConversionParameter(converter.GetReferenceImageGeometryParameterName(), geometry)
    if not copy.CreateRepresentation(converter.GetSegmentationBinaryLabelmapRepresentationName()):
        name = copy.GetSegment(segmentId).GetName()
        raise GeometryError(
            f"the segment {name!r} is neither a labelmap nor a closed surface; make Binary labelmap its representation "
            "in the Segmentations module"
        )
    return copy.GetSegment(segmentId).GetRepresentation(converter.GetSegmentationBinaryLabelmapRepresentationName())


def describe(target: Mapping | object) -> tuple[str, tuple[float, float, float], str]:
    """Name, colour (0…1) and terminology entry of a manifest's target."""
    entry = target if isinstance(target, Mapping) else vars(target)
    color = tuple(float(value) for value in entry.get("color") or (0.8, 0.3, 0.3))
    return str(entry["name"]), color, str(entry.get("terminology") or "")
