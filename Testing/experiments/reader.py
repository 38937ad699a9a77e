"""A simulated reader: sees the truth, the mask and the points of one slice, and does one thing at a time about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ProMISeCore import scores

ACCEPT, REJECT, MOVE, DELETE, ADD = ACTIONS = ("accept", "reject", "move", "delete", "add")


@dataclass(frozen=True)
class Point:
    """A control point of a slice: row, column in pixels; positive: it marks the target; own: the reader's."""

    row: float
    column: float
    positive: bool
    own: bool = False

    def within(self, region: np.ndarray) -> bool:
        """Whether it lies on a pixel of the region (H, W) bool; never for points beside the picture."""
        row, column = round(self.row), round(self.column)
        return 0 <= row < region.shape[0] and 0 <= column < region.shape[1] and bool(region[row, column])


class Action(NamedTuple):
    """One click: which of ACTIONS, and the slice's points after it. A rejected slice is empty and has none."""

    kind: str
    points: tuple[Point, ...]


class Reader:
    """Accepts a slice from a Dice of `enough` on; what else it does is one click each.

    - A slice that holds nothing of the target is rejected as a whole.
    - An automatic point on the wrong side of the target's border, the one farthest from it first, is moved into the
      largest connected error that asks for such a point, or deleted where there is none.
    - Else a point is added to the largest connected error, in its deepest place: as far as can be from its border and
      from points there.

    The reader knows the truth, never the model, and its own points are right.
    """

    def __init__(self, enough: float = 0.9) -> None:
        self.enough = enough

    def act(self, truth: np.ndarray, found: np.ndarray, points: Sequence[Point]) -> Action:
        """What to do about a slice: truth and found (H, W) bool."""
        points = tuple(points)
        if scores.dice(found, truth) >= self.enough:
            return Action(ACCEPT, points)
        if not truth.any():
            return Action(REJECT, ())
        missed, extra = largest_piece(truth & ~found), largest_piece(found & ~truth)
        wrong = _most_wrong(points, truth)
        if wrong is None:
            positive = bool(missed.sum() >= extra.sum())
            return Action(ADD, (*points, self._point(missed if positive else extra, points, positive)))
        rest = tuple(point for point in points if point is not wrong)
        error = missed if wrong.positive else extra
        if error.any():
            return Action(MOVE, (*rest, self._point(error, rest, wrong.positive)))
        return Action(DELETE, rest)

    def _point(self, region: np.ndarray, points: Sequence[Point], positive: bool) -> Point:
        return Point(*self._place(region, points), positive, own=True)

    def _place(self, region: np.ndarray, points: Sequence[Point]) -> tuple[int, int]:
        return deepest(region, points)


class Sloppy(Reader):
    """Clicks anywhere into the error, the same place for the same error."""

    def _place(self, region: np.ndarray, points: Sequence[Point]) -> tuple[int, int]:
        free = region.copy()
        for point in points:
            if point.within(region):
                free[round(point.row), round(point.column)] = False
        places = np.argwhere(free if free.any() else region)
        row, column = places[np.random.default_rng(len(places)).integers(len(places))]
        return int(row), int(column)


def _most_wrong(points: Sequence[Point], truth: np.ndarray) -> Point | None:
    """The automatic point that is farthest on the wrong side of the truth's border; None where all are right."""
    depths = {side: ndimage.distance_transform_edt(region) for side, region in ((True, ~truth), (False, truth))}
    automatic = [point for point in points if not point.own and point.within(depths[point.positive] > 0)]
    return max(automatic, key=lambda p: depths[p.positive][round(p.row), round(p.column)], default=None)


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest face-connected piece of (H, W); of equals, the first."""
    pieces, count = ndimage.label(mask)
    return mask if count < 2 else pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()


def deepest(region: np.ndarray, points: Sequence[Point] = ()) -> tuple[int, int]:
    """Row and column of a pixel of (H, W) that is farthest from what is outside, the picture's edge and the points."""
    free = np.pad(region, 1)
    for point in points:
        if point.within(region):
            free[round(point.row) + 1, round(point.column) + 1] = False
    depth = ndimage.distance_transform_edt(free)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column)
