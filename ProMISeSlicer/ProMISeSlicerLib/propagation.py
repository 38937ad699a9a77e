"""From slice to slice: the mask found on one is the prompt of the next."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .engine import Engine

_LEAST_SHARE = 0.75  # of the first neighbour's predicted IoU; a propagation until confidence falls ends below


def propagated(engine: Engine, target: str, mask: np.ndarray, ways: list[list[int]], untilUnsure: bool) -> Iterator:
    """Results of neighbour after neighbour along each way, each prompted by the one before; runs in the worker.

    untilUnsure: end where the predicted IoU falls to three quarters of the first neighbour's; it is not comparable
    between packs and targets, so no fixed number would do.
    """
    for way in ways:
        current, least = mask, 0.0
        for n in way:
            rows, columns = np.nonzero(current)
            box = (rows.min(), columns.min(), rows.max(), columns.max())
            result = engine.segmentSlice(n, target, [_inmost(current)], [1], box, current)
            found = np.asarray(result.masks[target], bool)
            iou = result.iou.get(target, 1.0)
            least = least or _LEAST_SHARE * iou
            if not found.any() or (untilUnsure and iou < least):
                break
            yield result
            current = found


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
