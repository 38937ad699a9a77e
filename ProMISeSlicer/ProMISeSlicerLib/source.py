"""The volume of a session as a stack of slices, and where its pixels lie in the world."""

from __future__ import annotations

import numpy as np

from . import environment, mrml
from .failing import SessionError, teaching
from .sliceGrid import SliceGrid

_LEAST_PIXELS = 4


class ResizedError(SessionError):
    """The volume has other slices than the session was made for, or another number of voxels."""


class Source:
    """A volume node read as the manifest asks for. nrc is (slice, row, column), ras world mm; slices (n, H, W[, C]).

    axis: None for the manifest's orientation. Raises SessionError for volumes that cannot be used.
    """

    def __init__(self, volumeNode, manifest, axis: str | None) -> None:
        self.node, self.manifest, self.axis = volumeNode, manifest, axis
        self._read()

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def isStale(self) -> bool:
        """Whether the node shows other voxels than were read, as when a sequence goes to its next frame."""
        return self._time != self._voxelTime()

    def refresh(self) -> bool:
        """Take the voxels anew where they have changed; True if so. Raises ResizedError if the slices have, another
        SessionError for voxels that cannot be used."""
        if not self.isStale:
            return False
        grid, size = self.grid.plain(), self._size
        image = self.node.GetImageData()
        isResized = image is not None and image.GetNumberOfPoints() > 0 and image.GetDimensions() != size
        if not isResized:
            self._read()
        if isResized or self.grid.plain() != grid:  # also turned by half: slices of one number are others
            name = self.node.GetName()
            raise ResizedError(
                f"the volume {name!r} has another size or other slices now; segment again for a new session on it"
            )
        return True

    def nrc(self, ras) -> np.ndarray:
        return self.grid.fromIjk(mrml.worldToIjk(self.node, ras))

    def world(self, nrc) -> np.ndarray:
        return mrml.ijkToWorld(self.node, self.grid.toIjk(nrc))

    def isInside(self, nrc) -> bool:
        return all(-0.5 <= value < size - 0.5 for value, size in zip(nrc, self.grid.shape, strict=True))

    def slice(self, n: int) -> int:
        """n, if there is such a slice. Raises SessionError."""
        if not 0 <= int(n) < len(self):
            raise SessionError(f"there is no slice {int(n) + 1}; the volume has slices 1 to {len(self)}")
        return int(n)

    def _read(self) -> None:
        with teaching():
            voxels = mrml.voxelsOf(self.node)
            volumes = environment.core("volumes")
            picture = mrml.isPicture(self.node) or (voxels.shape[0] == 1 and self.manifest.orientation == "image")
            volume = volumes.Volume(voxels, mrml.affineOf(self.node), self.node.GetName(), picture)
            stack = volumes.Stack(volume, self.axis or self.manifest.orientation)
        if min(stack.shape[1:]) < _LEAST_PIXELS:
            raise SessionError(
                f"{volume.name!r} has {stack.axis} slices of only {stack.shape[1]} × {stack.shape[2]} pixels; "
                "choose a pack for another orientation, or another axis"
            )
        if voxels.min() == voxels.max():
            raise SessionError(f"the volume {volume.name!r} is constant ({voxels.flat[0]}): it shows nothing")
        self.volume, self.grid = volume, SliceGrid.of(stack)
        self.slices = stack.canonical(voxels)
        self._time, self._size = self._voxelTime(), self.node.GetImageData().GetDimensions()

    def _voxelTime(self) -> tuple:
        """Empty for a volume without voxels."""
        image = self.node.GetImageData()
        scalars = None if image is None else image.GetPointData().GetScalars()
        return () if scalars is None else (scalars.GetAddressAsString(""), scalars.GetMTime())


def checkedVolume(volumeNode):
    """The node, if it is a volume in a scene. Raises SessionError."""
    if volumeNode is None or not volumeNode.IsA("vtkMRMLVolumeNode"):
        given = "nothing" if volumeNode is None else f"{volumeNode.GetName()!r}, a {volumeNode.GetClassName()},"
        raise SessionError(f"{given} was given as the volume; choose a volume")
    if volumeNode.GetScene() is None:
        raise SessionError(f"the volume {volumeNode.GetName()!r} is not in the scene; choose one that is")
    return volumeNode
