"""Prompt steps that can be undone: on the slices touched, the points and the masks before and after."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Bits:
    """A mask (any shape) bool at an eighth of its size."""

    __slots__ = ("_packed", "shape")

    def __init__(self, mask: np.ndarray) -> None:
        self.shape = mask.shape
        self._packed = np.packbits(mask)

    def mask(self) -> np.ndarray:
        return np.unpackbits(self._packed, count=int(np.prod(self.shape))).reshape(self.shape).view(bool)


def checksum(mask: np.ndarray) -> int:
    """What tells a mask from one that was edited by hand; 0 for an empty one."""
    return zlib.crc32(np.packbits(mask).tobytes()) if mask.any() else 0


@dataclass
class Moment:
    """One side of a step: per slice the mask (none: not known, decode again), the record, the points; and the ROI.

    awaited: slices whose masks were still those before an earlier prompt, as its answer had not come; decode again.
    """

    masks: dict[int, Bits] = field(default_factory=dict)
    records: dict[int, dict | None] = field(default_factory=dict)
    points: dict[int, list[tuple]] = field(default_factory=dict)  # (i, j, k), positive, user
    roi: tuple | None = None
    awaited: set[int] = field(default_factory=set)


class Gift(NamedTuple):
    """A slice of another target that gave way to a step: its mask before, and of it all that was given meanwhile."""

    whole: Bits
    given: Bits


@dataclass
class Step:
    """One prompt step of one target."""

    target: str
    before: Moment = field(default_factory=Moment)
    after: Moment = field(default_factory=Moment)
    others: dict[tuple[str, int], Gift] = field(default_factory=dict)  # target, slice → what it gave

    @property
    def slices(self) -> list[int]:
        return sorted(self.before.masks)


class History:
    """Steps done and undone; the newest `most` are kept."""

    def __init__(self, most: int = 100) -> None:
        self._most, self._done, self._undone = most, [], []

    def push(self, step: Step) -> None:
        self._done = [*self._done, step][-self._most :]
        self._undone.clear()

    @property
    def canUndo(self) -> bool:
        return bool(self._done)

    @property
    def canRedo(self) -> bool:
        return bool(self._undone)

    def undo(self) -> Step:
        self._undone.append(self._done.pop())
        return self._undone[-1]

    def redo(self) -> Step:
        self._done.append(self._undone.pop())
        return self._done[-1]

    def newest(self, target: str, n: int) -> Step | None:
        """The newest step done that has touched this slice of the target."""
        return _last(self._done, target, n)

    def learn(self, target: str, n: int, mask: np.ndarray) -> None:
        """The mask that the newest step of this slice has led to, and that a step undone since goes on from."""
        step, later = self.newest(target, n), _last(self._undone, target, n)
        if step is not None and n not in step.after.masks:
            step.after.masks[n] = Bits(mask)
        if later is not None and n in later.before.awaited:
            later.before.masks[n] = Bits(mask)
            later.before.awaited.remove(n)


def _last(steps: list[Step], target: str, n: int) -> Step | None:
    """The last of the steps that has touched this slice of the target."""
    return next((step for step in reversed(steps) if step.target == target and n in step.after.records), None)


def revert(current: np.ndarray, here: Bits | None, there: Bits) -> np.ndarray:
    """From mask `here` to `there`, keeping what was edited since: only voxels that the step has changed go back."""
    wanted = there.mask()
    if here is None:
        return wanted
    known = here.mask()
    return np.where((known != wanted) & (current == known), wanted, current)
