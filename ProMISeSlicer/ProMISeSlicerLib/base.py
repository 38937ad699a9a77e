"""What the points on a slice correct: a mask that was propagated to it or edited by hand, or what a box makes of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .history import Bits, Step, checksum
from .sliceGrid import SliceGrid
from .target import BASE, PROPAGATED, REFINED, Mark

_SAVED = "corrects"  # of a record in the scene: the mask that points correct


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
        """Of slice n as it was before the step."""
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

    @classmethod
    def read(cls, entry: Mapping[str, Any], grid: SliceGrid) -> Base | None:
        """What `plain` has told; None where it was of slices that lay otherwise in the volume, or is damaged."""
        try:
            if entry["grid"] != grid.plain():
                return None
            marks = enumerate(entry["earlier"])
            earlier = tuple(Mark(positive, True, tuple(nrc), place) for place, (positive, *nrc) in marks)
            box = None if entry["box"] is None else tuple(entry["box"])
            return cls(Bits.ofText(entry["mask"], grid.shape[1:]), earlier, entry["iou"], box)
        except (KeyError, TypeError, ValueError, zlib.error):  # one slice's past is not worth the session
            return None

    def plain(self, grid: SliceGrid) -> dict[str, Any]:
        """For the scene, as JSON."""
        earlier = [[mark.positive, *mark.nrc] for mark in self.earlier]
        found = {"mask": self.bits.text, "grid": grid.plain(), "earlier": earlier}
        return found | {"iou": self.iou, "box": self.box}

    @property
    def mask(self) -> np.ndarray:
        return self.bits.mask()

    def isCorrectedBy(self, mark: Mark) -> bool:
        """Whether this is the user's point, and came or moved after the mask."""
        return mark.user and not any(mark.isSame(other) for other in self.earlier)


def plainRecords(records: Mapping[int, dict], grid: SliceGrid) -> dict[str, dict]:
    """A target's records for the scene, as JSON."""
    found = {}
    for n, record in records.items():
        found[str(n)] = {key: value for key, value in record.items() if key != BASE}
        if record.get(BASE) is not None:
            found[str(n)][_SAVED] = record[BASE].plain(grid)
    return found


def readRecords(entries: Mapping[str, dict], grid: SliceGrid) -> dict[int, dict]:
    """A target's records from the scene. Where they hold no mask of these slices, points correct the one found."""
    found = {}
    for n, entry in entries.items():
        found[int(n)] = {key: value for key, value in entry.items() if key != _SAVED}
        if _SAVED in entry:
            found[int(n)][BASE] = Base.read(entry[_SAVED], grid)
    return found
