"""The segments of a segmentation node as masks: slice by slice, on the voxels of one volume."""

from __future__ import annotations

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from . import mrml
from .sliceGrid import SliceGrid


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
            if mrml.targetOf(segmentation.GetSegment(known)) == name:
                return known
        segmentId = segmentation.AddEmptySegment("", name, [float(value) for value in color])
        segment = segmentation.GetSegment(segmentId)
        segment.SetTag(mrml.TARGET_TAG, name)
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
            raise mrml.GeometryError(f"a mask of {mask.shape} (rows, columns) was given for slices of {old.shape}")
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
        image.SetGeometryFromImageToWorldMatrix(mrml.matrixFromArray(mrml.ijkToRas(self.volumeNode)))
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
        turn, offset = mrml.voxelOrder(image, self.volumeNode) or (None, None)
        if not np.array_equal(turn, np.eye(3)):
            raise mrml.GeometryError(
                f"the segmentation {self.node.GetName()!r} lies on another grid than {self.volumeNode.GetName()!r}; "
                "choose another segmentation, or none to get a new one"
            )
        return offset

    def _check(self) -> None:
        name, segmentation = self.node.GetName(), self.node.GetSegmentation()
        if self.node.GetTransformNodeID() != self.volumeNode.GetTransformNodeID():
            raise mrml.GeometryError(
                f"the segmentation {name!r} and the volume {self.volumeNode.GetName()!r} are under different "
                "transforms; put them under the same one, or choose no segmentation to get a new one"
            )
        ids = segmentation.GetSegmentIDs()
        if ids and segmentation.GetSourceRepresentationName() != "Binary labelmap":
            raise mrml.GeometryError(
                f"the segmentation {name!r} is kept as {segmentation.GetSourceRepresentationName()!r}; make Binary "
                "labelmap its source in the Segmentations module, or choose no segmentation to get a new one"
            )
        for segmentId in ids:
            image = segmentation.GetSegment(segmentId).GetRepresentation("Binary labelmap")
            if image is not None and image.GetNumberOfPoints():
                self._offset(image)
