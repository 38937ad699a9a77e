"""The slices of a volume in its storage order: pixel of a slice ⇄ voxel (I, J, K). No MRML."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
