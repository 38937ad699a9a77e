"""Prompt steps that can be undone: on the slices touched, the points and the masks before and after."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np


class Bits:
    """A mask (any shape) bool at an eighth of its size."""

    __slots__ = ("_packed", "_text", "shape")

    def __init__(self, mask: np.ndarray) -> None:
        self.shape = mask.shape
        self._packed, self._text = np.packbits(mask), ""

    @classmethod
    def ofText(cls, text: str, shape: tuple[int, ...]) -> Bits:
        """The mask of this shape that `text` was made of."""
        packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
        return cls(np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).view(bool))

    @property
    def text(self) -> str:
        """For JSON: base64 of deflated bits; a smooth mask of 512 × 512 takes about a kilobyte."""
        self._text = self._text or base64.b64encode(zlib.compress(self._packed.tobytes())).decode("ascii")
        return self._text

    def mask(self) -> np.ndarray:
        return np.unpackbits(self._packed, count=int(np.prod(self.shape))).reshape(self.shape).view(bool)


def checksum(mask: np.ndarray) -> int:
    """What tells a mask from one that was edited by hand; 0 for an empty one."""
    return zlib.crc32(np.packbits(mask).tobytes()) if mask.any() else 0


Cell = tuple[str, int]  # a target's name and one of its slices


@dataclass
class Moment:
    """One side of a step: masks and records; of the step's target also points, by slice, and the ROI.

    awaited: slices whose masks are still those before their prompts, as the answer has not come; decode again.
    """

    masks: dict[Cell, Bits] = field(default_factory=dict)
    records: dict[Cell, dict | None] = field(default_factory=dict)
    points: dict[int, list[tuple]] = field(default_factory=dict)
    roi: tuple | None = None
    awaited: set[Cell] = field(default_factory=set)

    def take(self, cell: Cell, mask: np.ndarray, record: dict | None) -> None:
        """On this side the slice is like that."""
        self.masks[cell] = Bits(mask)
        self.records[cell] = None if record is None else dict(record)
        self.awaited.discard(cell)

    def cut(self, cell: Cell, mask: np.ndarray) -> None:
        """On this side, too, the slice gives way to a mask."""
        rest, record = self.masks[cell].mask() & ~mask, self.records[cell]
        self.masks[cell] = Bits(rest)
        self.records[cell] = None if record is None else record | {"crc": checksum(rest)}

    def forget(self, cell: Cell) -> None:
        del self.masks[cell], self.records[cell]
        self.awaited.discard(cell)


@dataclass(eq=False)
class Step:
    """One prompt step or propagation of one target, and what other targets gave to it.

    boxes: of the ROI by slice, where the step has edited it.
    """

    target: str
    boxes: dict[int, tuple] | None = None
    before: Moment = field(default_factory=Moment)
    after: Moment = field(default_factory=Moment)

    @property
    def cells(self) -> list[Cell]:
        return sorted(self.before.masks)

    @property
    def own(self) -> list[Cell]:
        """Slices of the step's target, without what others gave."""
        return [cell for cell in self.cells if cell[0] == self.target]

    def touches(self, cell: Cell) -> bool:
        return cell in self.before.masks


class History:
    """Steps done and undone; the newest `most` are kept."""

    def __init__(self, most: int = 100) -> None:
        self._most, self._done, self._undone = most, [], []

    def push(self, step: Step) -> None:
        self._done = [*self._done, step][-self._most :]
        self._undone.clear()

    def discard(self, step: Step) -> None:
        """The step has come to nothing."""
        self._done = [each for each in self._done if each is not step]

    @property
    def canUndo(self) -> bool:
        return bool(self._done)

    @property
    def canRedo(self) -> bool:
        return bool(self._undone)

    @property
    def steps(self) -> list[Step]:
        """All, done and undone."""
        return [*self._done, *self._undone]

    @property
    def undone(self) -> list[Step]:
        """In the order of redo."""
        return self._undone[::-1]

    def isNewest(self, step: Step) -> bool:
        return bool(self._done) and self._done[-1] is step

    @contextmanager
    def undoing(self) -> Iterator[Step]:
        """The newest step done, which counts as undone within; where that fails, it can be undone again."""
        with _moved(self._done, self._undone) as step:
            yield step

    @contextmanager
    def redoing(self) -> Iterator[Step]:
        with _moved(self._undone, self._done) as step:
            yield step

    def newest(self, cell: Cell) -> Step | None:
        """The newest step done of the slice's own target that has touched it."""
        return next((step for step in reversed(self._done) if step.target == cell[0] and step.touches(cell)), None)

    def owner(self, step: Step, cell: Cell) -> Step:
        """Who takes back what `step` writes to a slice of its target: a later step done that has touched it, or it."""
        newest = self.newest(cell)
        return newest if newest in self._doneSince(step) else step

    def since(self, step: Step | None, cell: Cell) -> tuple[list[Step], list[Step]]:
        """Steps after this one that touch the slice: done ones, and undone ones in the order of redo.

        step: None for what no step has written: nothing is done since. None at all for a step that is not done.
        """
        if step is not None and step not in self._done:
            return [], []
        done = [] if step is None else self._doneSince(step)
        touching = [[each for each in steps if each.touches(cell)] for steps in (done, self.undone)]
        return touching[0], touching[1]

    def _doneSince(self, step: Step) -> list[Step]:
        return self._done[self._done.index(step) + 1 :] if step in self._done else []


@contextmanager
def _moved(here: list[Step], there: list[Step]) -> Iterator[Step]:
    """The last step of one list as the last of another, unless what is done meanwhile fails."""
    there.append(here.pop())
    try:
        yield there[-1]
    except Exception:  # whatever it was: the step is not lost, and the failure goes on to whoever asked
        here.append(there.pop())
        raise


def revert(current: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """From mask `here` to `there`, keeping what was edited since."""
    return np.where(current == here, there, current)
