"""An engine without a model, for tests: deterministic, numpy only, fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from . import environment
from .engine import SliceResult

RADIUS = 3.5  # pixels around a point


class FakeEngine:
    """Automatic: target i is where the voxel value is 100 (i + 1) ± 40. Prompted: discs around positive points, minus
    discs around negative ones, inside the box if there is one; alone, the box or the mask is the answer. Of a mask, or
    what a box and other points make of it, the user's points change nothing but their discs; without a box, other
    points do not count then.

    delay: seconds every slice takes. calls: (slice, target) of every prompted slice, for tests to look at.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay, self.calls, self.notices = delay, [], []
        self._stack = self._slices = None
        self._targets: list[str] = []

    def check(self) -> None:
        """Nothing can be missing."""

    def settings(self) -> dict[str, str]:
        return {"device": "none"}

    def open(self, volume, manifest, axis: str | None = None) -> None:
        self._stack = environment.core("volumes").Stack(volume, axis or manifest.orientation)
        self._slices = self._stack.canonical(volume.voxels)
        self._targets = [target.name for target in manifest.targets]

    def segmentVolume(self, first: int | None, cancelled: Callable[[], bool]) -> Iterator[SliceResult]:
        count = self._stack.shape[0]
        start = count // 2 if first is None else first
        for n in sorted(range(count), key=lambda n: (abs(n - start), -n)):
            if cancelled():
                return
            time.sleep(self.delay)
            yield self.automatic(n)

    def automatic(self, n: int) -> SliceResult:
        result = SliceResult(n)
        values = np.asarray(self._slices[n], float)
        values = values[..., 0] if values.ndim == 3 else values
        for number, target in enumerate(self._targets):
            mask = np.abs(values - 100 * (number + 1)) <= 40
            rows, columns = np.nonzero(mask) if mask.any() else (np.array([0]), np.array([0]))
            middle = len(rows) // 2
            result.masks[target] = mask
            result.points_rc[target] = np.array([[rows[middle], columns[middle]], [0.0, 0.0]])
            result.labels[target] = np.array([1, 0])
            result.iou[target] = 0.9 - 0.01 * n
        return result

    def segmentSlice(self, n: int, target: str, points=None, labels=None, box=None, mask=None, own=None) -> SliceResult:
        time.sleep(self.delay)
        self.calls.append((n, target))
        points = np.zeros((0, 2)) if points is None else np.asarray(points, float).reshape(-1, 2)
        labels = np.ones(len(points), int) if labels is None else np.asarray(labels)
        if mask is not None and own is not None and np.any(own):
            mask = mask if box is None else self._answer(points[~own], labels[~own], box, mask)
            points, labels, box = points[own], labels[own], None
        found = self._answer(points, labels, box, mask)
        return SliceResult(n, {target: found}, {target: points}, {target: labels}, {target: 0.8})

    def _answer(self, points: np.ndarray, labels: np.ndarray, box, mask) -> np.ndarray:
        shape = self._stack.shape[1:]
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        found = np.zeros(shape, bool) if mask is None else np.asarray(mask, bool).copy()
        inside = np.ones(shape, bool)
        if box is not None:
            r0, c0, r1, c1 = box
            inside = (rows >= min(r0, r1)) & (rows <= max(r0, r1)) & (columns >= min(c0, c1)) & (columns <= max(c0, c1))
            if mask is None and not (labels == 1).any():
                found = inside.copy()
        for (row, column), label in sorted(zip(points.tolist(), labels.tolist(), strict=True), key=lambda p: -p[1]):
            disc = (rows - row) ** 2 + (columns - column) ** 2 <= RADIUS**2
            found = found | disc if label else found & ~disc
        return found & inside

    def tidy(self, mask: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Slices without others beside them are specks."""
        filled = np.pad(mask.any(axis=(1, 2)), 1)
        return mask & (filled[:-2] | filled[2:] | keep)[:, None, None]

    def close(self) -> None:
        self._stack = self._slices = None
