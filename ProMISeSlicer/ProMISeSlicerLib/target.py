"""One target of a session: its segment, its prompts as last dealt with, and what is known of its slices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np

from . import environment, mrml
from .history import checksum
from .masking import EditorMasking
from .prompts import USER, TargetPrompts, crossing
from .review import Agreement
from .segments import Segments
from .source import Source

AUTO, PROPAGATED = "auto", "propagated"  # beside USER: whose a slice's mask is
FOUND = "found"  # it was there before, and nobody knows whose it is
REFINED, BASE = "refined", "base"  # of a record: prompts correct a mask; that mask, if known
_MOVED = 1e-3  # pixels; less is rounding
_DECIMALS = 6  # of pixels: the way to a scene's files and back changes places by less


class Mark(NamedTuple):
    """A control point as last dealt with: nrc (slice, row, column); place in the order in which they were placed."""

    positive: bool
    user: bool
    nrc: tuple[float, float, float]
    place: int

    @property
    def slice(self) -> int:
        return round(self.nrc[0])

    def isSame(self, other: Mark) -> bool:
        """Whether it says the same of the same place, whoever's it is."""
        return self.positive == other.positive and np.abs(np.subtract(self.nrc, other.nrc)).max() <= _MOVED


class Roi(NamedTuple):
    """An ROI as last dealt with: corners (8, 3) nrc; boxes by slice, only where it is the user's; what restores it."""

    corners: np.ndarray | None
    boxes: dict[int, tuple]
    state: tuple | None


class Target:
    """records: per slice "state" (auto, user, propagated, found), "locked", predicted "iou", "crc" of the mask written
    last, and what its prompts correct, as `rebase` and `keepAsBase` set it.

    quiet: within it, changes of the prompt nodes are the session's own; order: ids of control points as they were
    placed, as far as that is known.
    """

    def __init__(
        self,
        name: str,
        segmentId: str,
        prompts: TargetPrompts,
        records: dict[int, dict],
        segments: Segments,
        source: Source,
        quiet: Callable[[], AbstractContextManager],
        order: Sequence[str],
    ) -> None:
        self.name, self.segmentId, self.prompts, self.records = name, segmentId, prompts, records
        self._segments, self._source, self._quiet = segments, source, quiet
        self._masking = EditorMasking(segments, source)
        self.table: dict[str, Mark] = {}
        self._placing = itertools.count()
        self._places = dict(zip(order, self._placing, strict=False))
        self.agreement = Agreement(len(source), self.mask, lambda: segments.stamp(segmentId))
        self.settle()

    def entry(self) -> dict:
        """For the scene, as JSON: its segment, and its control points in the order in which they were placed."""
        return {"name": self.name, "segment": self.segmentId, "points": list(self.table)}

    # Masks

    def mask(self, n: int) -> np.ndarray:
        return self._segments.read(self.segmentId, n)

    def masks(self) -> np.ndarray:
        return self._segments.readAll(self.segmentId)

    def put(self, n: int, mask: np.ndarray, iou: float | None) -> np.ndarray:
        """Write a mask that was computed, where Segment Editor's masking lets it; returns what is there now."""
        mask = self._masking.applied(self.segmentId, n, mask)
        self.restore(n, mask)
        self.record(n).update(crc=checksum(mask), iou=None if iou is None else round(float(iou), 4))
        return mask

    def restore(self, n: int, mask: np.ndarray) -> None:
        """Write a mask that was there before, as it was."""
        with self.agreement.writing(n):
            self._segments.write(self.segmentId, n, mask)

    # Whose a slice is

    def record(self, n: int) -> dict:
        return self.records.setdefault(n, {"state": AUTO, "iou": None, "crc": 0})

    def state(self, n: int) -> str | None:
        record = self.records.get(n)
        return None if record is None else record["state"]

    def isLocked(self, n: int) -> bool:
        return bool(self.records.get(n, {}).get("locked"))

    def isUsers(self, n: int) -> bool:
        """Whether the user has prompted it, locked it, or edited it by hand at any time."""
        if self.isLocked(n) or self.state(n) == USER:
            return True
        edited = checksum(self.mask(n)) != self.records.get(n, {}).get("crc", 0)
        if edited:
            self.record(n)["state"] = USER
        return edited

    def isKept(self, n: int) -> bool:
        """Whether automatic passes must leave it alone: the user's slices, those that were propagated to, and those
        that were there before."""
        return self.isUsers(n) or self.state(n) in (PROPAGATED, FOUND)

    def keepHandEdits(self) -> int:
        """Slices whose masks are not what was written last are the user's from now on; how many there were."""
        masks, kept = self.masks(), 0
        for n in range(len(self._source)):
            now = checksum(masks[n])
            if now != self.records.get(n, {}).get("crc", 0):
                self.record(n).update(state=USER, crc=now)
                self.keepAsBase(n)
                kept += 1
        if kept:
            self.agreement.forget()
        return kept

    def acknowledge(self, n: int) -> None:
        """The mask as it is now is no hand edit."""
        now = checksum(self.mask(n))
        if now != self.records.get(n, {}).get("crc", 0):
            self.record(n)["crc"] = now

    def rebase(self, n: int, base: object | None) -> None:
        """What the prompts of slice n correct from now on; None: they alone lead to its mask."""
        record = self.record(n)
        record.pop(REFINED, None)
        record.pop(BASE, None)
        if base is not None:
            record.update({REFINED: True, BASE: base})

    def keepAsBase(self, n: int) -> None:
        """The prompts that come after this correct the mask that they find."""
        self.rebase(n, None)
        self.record(n)[REFINED] = True

    def takeRecord(self, n: int, record: dict | None) -> None:
        """What was known of the slice at another time; that it is locked, or not, stays."""
        isLocked = self.isLocked(n)
        self.records.pop(n, None)
        if record is not None:
            self.records[n] = dict(record)
        if self.isLocked(n) != isLocked:
            self.record(n)["locked"] = isLocked

    def release(self, n: int) -> None:
        """Give a slice back to automatic passes; its points look automatic, as the next pass will replace them."""
        if n not in self.records:
            return
        record, now = self.record(n), checksum(self.mask(n))
        if record["state"] != AUTO or record["crc"] != now:
            self.keepAsBase(n)
        record.update(locked=False, state=AUTO, crc=now)
        with self._quiet():
            self.prompts.disown([id_ for id_, mark in self.table.items() if mark.slice == n])
        self.settle()

    # Prompts

    def settle(self) -> None:
        """Take the prompts as they are now for dealt with."""
        self.table, self.roi = self.readTable(), self.readRoi()
        self._places = {id_: mark.place for id_, mark in self.table.items()}

    def readTable(self) -> dict[str, Mark]:
        """The control points as they are now, in the order in which they were placed; those not seen before are last,
        Include before Exclude."""
        points = self.prompts.points()
        nrcs = self._source.nrc([point.ras for point in points]) if points else []
        for point in points:
            if point.id not in self._places:
                self._places[point.id] = next(self._placing)
        return _inOrder(
            {
                point.id: Mark(point.positive, point.user, _exact(nrc), self._places[point.id])
                for point, nrc in zip(points, nrcs, strict=True)
            }
        )

    def marks(self, n: int) -> list[Mark]:
        """Of slice n, as last dealt with; n may lie outside the volume."""
        return [mark for mark in self.table.values() if mark.slice == n]

    def deleteLast(self, n: int) -> bool:
        """Take away the user's point on slice n that was placed last, of either list; False where there is none.

        Points beyond the first or last slice count as on it.
        """
        marks, last = self.readTable().items(), len(self._source) - 1
        ids = [id_ for id_, mark in marks if mark.user and min(max(mark.slice, 0), last) == n]
        if ids:
            self.prompts.remove(ids[-1])
        return bool(ids)

    def readRoi(self, edited: bool = False) -> Roi:
        """The ROI as it is now; `edited`: it counts as the user's."""
        corners = self.prompts.roiCorners()
        if corners is None:
            return Roi(None, {}, None)
        nrc = self._source.nrc(corners).round(_DECIMALS) + 0.0  # no -0.0
        isUsers = edited or self.prompts.roiIsUsers
        return Roi(nrc, crossing(nrc, len(self._source)) if isUsers else {}, self.prompts.roiState())

    def replacePoints(self, slices: Iterable[int], marks: list[Mark]) -> None:
        """All points of these slices by others, as settled ones: nothing is decoded for it."""
        slices = set(slices)
        gone = [id_ for id_, mark in self.table.items() if mark.slice in slices]
        if not gone and not marks:
            return
        places = self._source.world([mark.nrc for mark in marks]) if marks else []
        points = [(ras, mark.positive, mark.user) for ras, mark in zip(places, marks, strict=True)]
        with self._quiet():
            ids = self.prompts.replace(gone, points)
        for id_ in gone:
            del self.table[id_], self._places[id_]
        self.table = _inOrder(self.table | dict(zip(ids, marks, strict=True)))
        self._places.update((id_, self.table[id_].place) for id_ in ids)

    def placeAutomatic(self, results: list) -> None:
        """The points of new automatic slices, in place of those that were there; none on empty slices."""
        marks = []
        for result in results:
            if self.name in result.points_rc and self.record(result.index)["crc"]:  # not empty, also now
                points = np.asarray(result.points_rc[self.name], float).reshape(-1, 2).tolist()
                labels = result.labels[self.name]
                marks += [
                    Mark(bool(label), False, _exact((result.index, *point)), next(self._placing))
                    for point, label in zip(points, labels, strict=True)
                ]
        self.replacePoints({result.index for result in results}, marks)

    def claim(self, ids: set[str]) -> str:
        """These points are the user's and lie on their slice from now on; what the user should know of it."""
        marks, hint = self.readTable(), ""
        with self._quiet():
            for point in self.prompts.points():
                if point.id not in ids:
                    continue
                nrc = np.array(marks[point.id].nrc)
                if not self._source.isInside(nrc):
                    hint = f"a point of {self.name!r} lies outside the volume and is not used"
                    self.prompts.claim(point)
                    continue
                onSlice = np.array([round(nrc[0]), nrc[1], nrc[2]])
                ras = self._source.world([onSlice])[0] if abs(nrc[0] - onSlice[0]) > _MOVED else None
                self.prompts.claim(point, ras)
                if ras is not None:
                    millimetres = float(np.linalg.norm(ras - np.array(point.ras)))
                    hint = f"the point went to the nearest slice, {int(onSlice[0]) + 1}, {millimetres:.1f} mm away"
        return hint

    def placeRoi(self) -> None:
        """Put the automatic ROI around the segment; a user's stays."""
        mask = self.masks()
        if self.prompts.roiIsUsers or not mask.any():
            return
        core = environment.core("bounds")
        spans = core.bounds(mask)
        ijk = self._source.grid.toIjk([[span.start for span in spans], [span.stop - 1 for span in spans]])
        box = core.of_voxels(ijk.min(axis=0), ijk.max(axis=0), mrml.ijkToRas(self._source.node))
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = box.axes_ras, box.center_ras
        with self._quiet():
            self.prompts.placeRoi(matrix, box.size_mm)
        self.roi = self.readRoi()

    def restoreRoi(self, state: tuple | None) -> None:
        with self._quiet():
            self.prompts.restoreRoi(state)
        self.roi = self.readRoi()


def _exact(nrc: Iterable[float]) -> tuple[float, float, float]:
    """A place, the same before a scene is saved and after it was loaded."""
    return tuple(round(float(value), _DECIMALS) + 0.0 for value in nrc)  # no -0.0


def _inOrder(table: dict[str, Mark]) -> dict[str, Mark]:
    """By the order in which they were placed."""
    return dict(sorted(table.items(), key=lambda entry: entry[1].place))


def differences(old: dict[str, Mark], new: dict[str, Mark]) -> dict[str, set[int]]:
    """Control points that came, went or moved → the slices where they were and are."""
    found = {}
    for id_ in old.keys() | new.keys():
        was, now = old.get(id_), new.get(id_)
        if None in (was, now) or not was.isSame(now):
            found[id_] = {mark.slice for mark in (was, now) if mark is not None}
    return found


def differ(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether an ROI's corners have moved."""
    if a is None or b is None:
        return a is not b
    return bool(np.abs(a - b).max() > _MOVED)
