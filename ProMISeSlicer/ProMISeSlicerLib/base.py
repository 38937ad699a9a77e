"""What the points on a slice correct: a mask that was propagated to it or edited by hand, or what a box makes of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .history import Bits, Step, checksum
from .target import BASE, PROPAGATED, REFINED, Mark


class Base(NamedTuple):
    """A mask, the user's points that were there before it and are dealt with in it, and its predicted IoU.

    box: (row, column, row, column) of an ROI edited since; then points correct the decoder's answer to mask and box.
    """

    bits: Bits
    earlier: tuple[Mark, ...]
    iou: float | None
    box: tuple[float, ...] | None = None

    @classmethod
    def of(cls, step: Step, n: int) -> Base | None:
        """Of slice n from the step on; None where its prompts alone lead to its mask."""
        base = cls._before(step, n)
        return base if base is None or step.boxes is None else base._replace(box=step.boxes.get(n))

    @classmethod
    def _before(cls, step: Step, n: int) -> Base | None:
        cell = step.target, n
        bits, record = step.before.masks.get(cell), step.before.records.get(cell) or {}
        if bits is None:
            return None
        isEdited = checksum(bits.mask()) != record.get("crc", 0)
        if not isEdited and not record.get(REFINED) and record.get("state") != PROPAGATED:
            return None
        if not isEdited and record.get(BASE) is not None:
            return record[BASE]
        return cls(bits, tuple(mark for mark in step.before.points.get(n, ()) if mark.user), record.get("iou"))

    @property
    def mask(self) -> np.ndarray:
        return self.bits.mask()

    def isCorrectedBy(self, mark: Mark) -> bool:
        """Whether this is the user's point, and came or moved after the mask."""
        return mark.user and not any(mark.isSame(other) for other in self.earlier)
