"""Between MRML and the core, all geometry: volume node → voxels and affine, world mm ⇄ slice pixels, mask ⇄ segment.

A point is kept in world RAS mm by markups, in (I, J, K) by volumes and as (slice, row, column) by the core. Parent
transforms, linear or not, are part of the way from world to (I, J, K); masks stay on the volume's own voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


class SliceGrid:
    """Which voxel a slice's pixel is: (I, J, K) = origin + steps @ (slice, row, column), steps a signed permutation."""

    def __init__(self, shape: tuple[int, int, int], origin: np.ndarray, steps: np.ndarray) -> None:
        self.shape = tuple(int(size) for size in shape)  # (n, H, W)
        self.origin, self.steps = np.asarray(origin, int), np.asarray(steps, int)
        self._axes = [int(np.abs(self.steps[:, dim]).argmax()) for dim in range(3)]  # storage axis, 0 for I
        self._flips = tuple(slice(None, None, int(self.steps[self._axes[dim], dim])) for dim in range(3))

    @classmethod
    def of(cls, stack) -> SliceGrid:
        """Of a `ProMISeCore.volumes.Stack`."""
        corner = stack.rc_to_ras(0, [[0, 0], [1, 0], [0, 1]])
        points = np.vstack([corner[:1], stack.rc_to_ras(1, [[0, 0]]), corner[1:]])
        affine = np.asarray(stack.volume.affine, float)
        ijk = np.rint(np.linalg.solve(affine[:3, :3], (points - affine[:3, 3]).T).T).astype(int)
        return cls(stack.shape, ijk[0], (ijk[1:] - ijk[0]).T)

    @classmethod
    def ofPlain(cls, numbers: Sequence[int]) -> SliceGrid:
        """The grid that `plain` has told."""
        return cls(numbers[:3], numbers[3:6], np.reshape(numbers[6:], (3, 3)))

    def __len__(self) -> int:
        return self.shape[0]

    def isAlong(self, other: SliceGrid) -> bool:
        """Whether a slice is a slice of the other grid, too, whichever way it is numbered or seen."""
        return self._axes[0] == other._axes[0] and self.shape[0] == other.shape[0]

    def plain(self) -> list[int]:
        """What tells this grid from others, for JSON."""
        return [*self.shape, *self.origin.tolist(), *self.steps.ravel().tolist()]

    def toIjk(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) (slice, row, column) → (N, 3) (I, J, K)."""
        return np.asarray(points, float).reshape(-1, 3) @ self.steps.T + self.origin

    def fromIjk(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) (I, J, K) → (N, 3) (slice, row, column), also outside the volume."""
        return (np.asarray(points, float).reshape(-1, 3) - self.origin) @ self.steps

    def extent(self, n: int) -> tuple[int, int, int, int, int, int]:
        """VTK extent of slice n in the volume."""
        last = np.array(self.shape) - 1
        corners = self.toIjk([[n, 0, 0], [n, last[1], last[2]]]).astype(int)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return tuple(int(value) for pair in zip(low, high, strict=True) for value in pair)

    def toBlock(self, mask: np.ndarray) -> np.ndarray:
        """(H, W), or slices (m, H, W) → the same voxels in storage order (K, J, I)."""
        slices = mask if mask.ndim == 3 else mask[None]
        return slices[self._flips].transpose(np.argsort([2 - axis for axis in self._axes]))

    def fromBlock(self, block: np.ndarray) -> np.ndarray:
        """(K, J, I) → slices (m, H, W); the inverse of `toBlock`."""
        return block.transpose([2 - axis for axis in self._axes])[self._flips]


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


class Segments:
    """The segments of one segmentation node, slice by slice on a volume's grid; other segments are never touched.

    Raises GeometryError where the node lies on another grid, under another transform, or holds no labelmaps.
    """

    def __init__(self, segmentationNode, volumeNode, grid: SliceGrid) -> None:
        self.node, self.volumeNode, self.grid = segmentationNode, volumeNode, grid
        self._check()

    def ensure(self, segmentId: str, name: str, color, terminology: str = "") -> str:
        """The id of a segment, made with name, colour and terminology where there is none of this id or target."""
        segmentation = self.node.GetSegmentation()
        if segmentId and segmentation.GetSegment(segmentId) is not None:
            return segmentId
        for known in segmentation.GetSegmentIDs():
            if targetOf(segmentation.GetSegment(known)) == name:
                return known
        segmentId = segmentation.AddEmptySegment("", name, [float(value) for value in color])
        segment = segmentation.GetSegment(segmentId)
        segment.SetTag(TARGET_TAG, name)
        if terminology:
            segment.SetTag(segment.GetTerminologyEntryTagName(), terminology)
        return segmentId

    def read(self, segmentId: str, n: int) -> np.ndarray:
        """Slice n of a segment, (H, W) bool."""
        return self._block(segmentId, self.grid.extent(n))[0]

    def readAll(self, segmentId: str) -> np.ndarray:
        """All slices of a segment, (n, H, W) bool."""
        return self._block(segmentId, self._wholeExtent())

    def stamp(self, segmentId: str) -> int:
        """Another number whenever somebody has written a segment's voxels, also one of another segment beside it."""
        segment = self.node.GetSegmentation().GetSegment(segmentId)
        image = None if segment is None else segment.GetRepresentation("Binary labelmap")
        return 0 if image is None else image.GetMTime()

    def write(self, segmentId: str, n: int, mask: np.ndarray) -> bool:
        """Replace slice n by mask (H, W) bool; False where it was like that. Surfaces are dropped, not re-meshed."""
        old = self.read(segmentId, n)
        mask = np.asarray(mask, bool)
        if mask.shape != old.shape:
            raise GeometryError(f"a mask of {mask.shape} (rows, columns) was given for slices of {old.shape}")
        if np.array_equal(old, mask):
            return False
        if self.node.GetSegmentation().ContainsRepresentation("Closed surface"):
            self.node.RemoveClosedSurfaceRepresentation()
        self._ownLayer(segmentId)
        self._reach(segmentId, n, mask)
        segment = self.node.GetSegmentation().GetSegment(segmentId)
        image = segment.GetRepresentation("Binary labelmap")
        values, here, there = self._overlap(image, self.grid.extent(n))
        part = values[there]
        part[...] = self.grid.toBlock(mask)[here] * values.dtype.type(segment.GetLabelValue())
        image.GetPointData().GetScalars().Modified()
        image.Modified()  # the segmentation observes it: displays, storage and undo learn of it
        return True

    def _ownLayer(self, segmentId: str) -> None:
        """Give a segment a labelmap of its own, so that no other segment lies in the voxels that are written."""
        segmentation = self.node.GetSegmentation()
        if len(segmentation.GetSegmentIDsForLayer(segmentation.GetLayerIndex(segmentId))) > 1:
            segmentation.SeparateSegmentLabelmap(segmentId)

    def _reach(self, segmentId: str, n: int, mask: np.ndarray) -> None:
        """Make the labelmap large enough for mask on slice n; it grows by half its size, so that it rarely has to."""
        rows, columns = np.nonzero(mask)
        if not len(rows):
            return
        corners = self.grid.toIjk([[n, rows.min(), columns.min()], [n, rows.max(), columns.max()]]).astype(int)
        low, high = corners.min(axis=0), corners.max(axis=0)
        image = self.node.GetSegmentation().GetSegment(segmentId).GetRepresentation("Binary labelmap")
        if image.GetNumberOfPoints() and image.GetPointData().GetScalars() is not None:
            start, size = self._start(image), np.array(image.GetDimensions())
            if (low >= start).all() and (high < start + size).all():
                return
            room = size // 2
            low = np.where(low < start, np.minimum(low, start - room), start)
            high = np.where(high >= start + size, np.maximum(high, start + size - 1 + room), start + size - 1)
            old = self._block(segmentId, self._wholeExtent())
            old = self.grid.toBlock(old)
        else:
            old = None
        whole = np.array(self.volumeNode.GetImageData().GetDimensions())
        low, high = np.maximum(low, 0), np.minimum(high, whole - 1)
        image.SetGeometryFromImageToWorldMatrix(matrixFromArray(ijkToRas(self.volumeNode)))
        image.SetExtent(*np.column_stack([low, high]).ravel().tolist())
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        image.GetPointData().GetScalars().Fill(0)
        if old is not None:
            value = self.node.GetSegmentation().GetSegment(segmentId).GetLabelValue()
            part = tuple(slice(a, b + 1) for a, b in zip(low[::-1], high[::-1], strict=True))
            vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])[:] = old[part] * value

    def _wholeExtent(self) -> tuple[int, ...]:
        return tuple(value for size in self.volumeNode.GetImageData().GetDimensions() for value in (0, size - 1))

    def _start(self, image) -> np.ndarray:
        """(3,) volume index (I, J, K) of a labelmap's first voxel."""
        return np.array(image.GetExtent()[::2]) + self._offset(image)

    def _overlap(self, image, extent) -> tuple:
        """The labelmap's voxels (K, J, I), a view; where an extent of the volume meets them: in it, and in them."""
        values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
        start = self._start(image)
        here, there = [], []
        for axis in (2, 1, 0):
            low, high = extent[2 * axis], extent[2 * axis + 1]
            first, last = max(low, start[axis]), min(high, start[axis] + values.shape[2 - axis] - 1)
            last = max(last, first - 1)  # nothing in common
            here.append(slice(first - low, last - low + 1))
            there.append(slice(first - start[axis], last - start[axis] + 1))
        return values, tuple(here), tuple(there)

    def _block(self, segmentId: str, extent) -> np.ndarray:
        """The part of a segment inside a VTK extent of the volume, as slices (m, H, W) bool."""
        i0, i1, j0, j1, k0, k1 = extent
        found = np.zeros((k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1), bool)
        segment = self.node.GetSegmentation().GetSegment(segmentId)
        image = None if segment is None else segment.GetRepresentation("Binary labelmap")
        if image is not None and image.GetNumberOfPoints() and image.GetPointData().GetScalars() is not None:
            values, here, there = self._overlap(image, extent)
            found[here] = values[there] == segment.GetLabelValue()
        return self.grid.fromBlock(found)

    def _offset(self, image) -> np.ndarray:
        """(3,) whole voxels from the labelmap's indices to the volume's. Raises GeometryError for other grids."""
        turn, offset = voxelOrder(image, self.volumeNode) or (None, None)
        if not np.array_equal(turn, np.eye(3)):
            raise GeometryError(
                f"the segmentation {self.node.GetName()!r} lies on another grid than {self.volumeNode.GetName()!r}; "
                "choose another segmentation, or none to get a new one"
            )
        return offset

    def _check(self) -> None:
        name, segmentation = self.node.GetName(), self.node.GetSegmentation()
        if self.node.GetTransformNodeID() != self.volumeNode.GetTransformNodeID():
            raise GeometryError(
                f"the segmentation {name!r} and the volume {self.volumeNode.GetName()!r} are under different "
                "transforms; put them under the same one, or choose no segmentation to get a new one"
            )
        ids = segmentation.GetSegmentIDs()
        if ids and segmentation.GetSourceRepresentationName() != "Binary labelmap":
            raise GeometryError(
                f"the segmentation {name!r} is kept as {segmentation.GetSourceRepresentationName()!r}; make Binary "
                "labelmap its source in the Segmentations module, or choose no segmentation to get a new one"
            )
        for segmentId in ids:
            image = segmentation.GetSegment(segmentId).GetRepresentation("Binary labelmap")
            if image is not None and image.GetNumberOfPoints():
                self._offset(image)


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
