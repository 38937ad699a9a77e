"""From slice to slice: the mask found on one is the prompt of the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .engine import Engine

_LEAST_SHARE = 0.75  # of the first neighbour's predicted IoU; a propagation until confidence falls ends below


class Propagation:
    """A target's mask (H, W) of one slice on its way to others; `results` runs in the worker, the rest does not.

    ways: lists of slices, each from neighbour to neighbour. untilUnsure: a way ends where the predicted IoU falls to
    three quarters of the first neighbour's; it is not comparable between packs and targets: no fixed number would do.
    """

    def __init__(self, target: str, mask: np.ndarray, ways: list[list[int]], untilUnsure: bool) -> None:
        self.target, self._mask, self._ways, self._untilUnsure = target, mask, ways, untilUnsure
        self._ended: set[int] = set()  # slices at which ways were ended

    def __len__(self) -> int:
        return sum(map(len, self._ways))

    def goesOn(self, n: int) -> bool:
        """Whether the way through slice n has not been ended."""
        return not any(n in way and not self._ended.isdisjoint(way) for way in self._ways)

    def endAt(self, n: int) -> None:
        """The way through slice n goes no further."""
        self._ended.add(n)

    def results(self, engine: Engine) -> Iterator:
        """Of neighbour after neighbour along each way, each prompted by the one before."""
        for way in self._ways:
            current, least = self._mask, 0.0
            for n in way:
                if not self.goesOn(n):
                    break
                rows, columns = np.nonzero(current)
                box = (rows.min(), columns.min(), rows.max(), columns.max())
                result = engine.segmentSlice(n, self.target, [_inmost(current)], [1], box, current, [False])
                found = np.asarray(result.masks[self.target], bool)
                iou = result.iou.get(self.target, 1.0)
                least = least or _LEAST_SHARE * iou
                if not found.any() or (self._untilUnsure and iou < least):
                    break
                yield result
                current = found


def ways(n: int, total: int, count: int | None, direction: int, isUsers: Callable[[int], bool]) -> list[list[int]]:
    """Slices 0…total−1 from n on, up, down (direction +1, −1) or both (0), `count` each way, up to the user's."""
    found: list[list[int]] = []
    for way in (1, -1) if direction == 0 else (1 if direction > 0 else -1,):
        found.append([])
        for m in range(n + way, total if way > 0 else -1, way):
            if isUsers(m) or (count is not None and len(found[-1]) >= count):
                break
            found[-1].append(m)
    return found


def _inmost(mask: np.ndarray) -> tuple[int, int]:
    """(row, column) of a pixel deep inside a mask: one of those that erosion takes last."""
    left = np.pad(mask, 1)
    while True:
        smaller = left.copy()
        for axis in (0, 1):
            for step in (1, -1):
                smaller &= np.roll(left, step, axis)
        if not smaller.any():
            rows, columns = np.nonzero(left)
            return int(rows[len(rows) // 2]) - 1, int(columns[len(columns) // 2]) - 1
        left = smaller
