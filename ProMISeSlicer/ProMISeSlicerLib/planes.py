"""The slices of a session as planes in the world, and which of them a slice view shows."""

from __future__ import annotations

import numpy as np


class Planes:
    """A stack of slices; source: its `Source`. A view is its SliceToRAS: (4, 4), axes in columns, its middle last."""

    def __init__(self, source) -> None:
        count, height, width = source.grid.shape
        row, column = (height - 1) / 2, (width - 1) / 2
        points = [[0, row, column], [1, row, column], [0, height - 0.5, column], [0, row, width - 0.5]]
        self.count, (self._first, after, below, beside) = count, source.world(points)
        self._step = after - self._first  # from a slice to the next, world mm
        self._down, self._right = below - self._first, beside - self._first  # from its middle to its edges
        self._normal = _unit(np.cross(self._right, self._down))

    def middle(self, n: int) -> np.ndarray:
        """(3,) world mm."""
        return self._first + n * self._step

    def slant(self, view: np.ndarray) -> float:
        """How little a view looks along the slices' normal: 0 for one in their planes, 1 for one across them."""
        return 1 - abs(float(_unit(view[:3, 2]) @ self._normal))

    def isParallel(self, view: np.ndarray) -> bool:
        """Whether it shows one slice only: laid through a slice's middle, it stays within half a slice to its edges."""
        way = _unit(view[:3, 2])
        strays = abs(way @ self._down) + abs(way @ self._right)
        return bool(strays < abs(self._step @ self._normal) / 2)

    def at(self, view: np.ndarray) -> int:
        """The slice nearest to where a view cuts the line through the slices' middles, however the view is panned."""
        way = view[:3, 2]
        along = float(way @ self._step)
        n = way @ (view[:3, 3] - self._first) / along if along else 0.0
        return int(np.clip(round(float(n)), 0, self.count - 1))

    def axes(self) -> np.ndarray:
        """(4, 4): the slices' right, down and normal in columns, to turn a view to; at right angles in sheared ones."""
        right, matrix = _unit(self._right), np.eye(4)
        matrix[:3, :3] = np.column_stack([right, np.cross(self._normal, right), self._normal])
        return matrix


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
