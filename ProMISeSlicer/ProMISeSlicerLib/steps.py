"""Prompt steps: from what the user does with the prompts to the slices to solve, and back again with undo and redo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from .history import Bits, Gift, History, Moment, Step, revert
from .jobs import Jobs
from .prompts import SOURCE, USER
from .source import Source
from .target import PROPAGATED, Mark, Target, differ, differences


class Steps:
    """exclusive: targets do not overlap; the user's slices win, then the target that was prompted last."""

    def __init__(self, targets: Mapping[str, Target], source: Source, jobs: Jobs, exclusive: bool) -> None:
        self._targets, self._source, self._jobs, self._exclusive = targets, source, jobs, exclusive
        self.history = History()
        self._open: dict[str, Step] = {}  # under way, while dragging
        self._chain: Step | None = None  # of a propagation

    # From prompts to jobs

    def solve(self, name: str, dragging: bool, onScreen: int | None) -> str | None:
        """Decode the slices whose prompts have changed, for show while dragging, else for good; a hint at the end."""
        target = self._targets[name]
        table, roi = target.readTable(), target.readRoi()
        moved, roiMoved = differences(target.table, table), differ(target.roi.corners, roi.corners)
        if not moved and not roiMoved and name not in self._open:
            return None
        roi = target.readRoi(edited=True) if roiMoved else roi
        touched = {n for slices in moved.values() for n in slices if 0 <= n < len(self._source)}
        crossed = set(roi.boxes) | set(target.roi.boxes) if roiMoved else set()
        touched |= {n for n in crossed if not target.isLocked(n)}
        if not dragging:
            self._takeBack(but=name)
        step = self._open.setdefault(name, Step(name, Moment(roi=target.roi.state)))
        if dragging and roiMoved:
            touched &= {onScreen}
        self._begin(step, touched)
        if not dragging:
            return self._commit(step, touched, set(moved) & set(table), roiMoved)
        for n in touched:
            self._decode(target, n, table, roi.boxes, _start(step, n))
        return None

    def _takeBack(self, but: str | None = None) -> None:
        """What is shown of drags under way, lest another step begins or ends with it; the next move shows it again."""
        for step in [self._open.pop(name) for name in reversed(list(self._open)) if name != but]:
            for n in step.slices:
                self._putBack(step, n, step.before, None)

    def _commit(self, step: Step, touched: set[int], ids: set[str], roiMoved: bool) -> str:
        """Make the step the user's: points claimed and brought onto their slice, other slices of a drag put back."""
        target = self._targets[step.target]
        self._open.pop(step.target, None)
        hint = target.claim(ids)
        if roiMoved:
            target.prompts.roi.SetAttribute(SOURCE, USER)
        target.settle()
        for n in set(step.slices) - touched:  # passed through while dragging
            self._putBack(step, n, step.before, None)
            for part in (step.before.masks, step.before.records, step.before.points):
                part.pop(n)
        starts = {n: _start(step, n) for n in touched}
        for n in touched:
            target.record(n).update(state=USER, refined=starts[n] is not None)
        step.after = target.moment(touched)
        step.after.masks = {}
        if touched or roiMoved:
            self.history.push(step)
        for n in touched:
            self._decode(target, n, target.table, target.roi.boxes, starts[n])
        return hint

    def _decode(
        self, target: Target, n: int, table: dict[str, Mark], boxes: dict[int, tuple], start: np.ndarray | None = None
    ) -> None:
        """start: the mask that the prompts refine, or None."""
        marks = [mark for mark in table.values() if mark.slice == n and self._source.isInside(mark.nrc)]
        box = boxes.get(n)
        if box is None and not any(mark.positive for mark in marks) and (start is None or not marks):
            self._jobs.drop((target.name, n))
            self.found(target.name, n, np.zeros(self._source.grid.shape[1:], bool), None)
            return
        points = np.array([mark.nrc[1:] for mark in marks], float).reshape(-1, 2)
        labels = np.array([int(mark.positive) for mark in marks], int)
        self._jobs.decode(target.name, n, points, labels, box, start)

    # From results to segments

    def found(self, name: str, n: int, mask: np.ndarray, iou: float | None) -> None:
        """The answer to a slice's prompts."""
        step = self._open.get(name)
        isPreview = step is not None and n in step.before.masks
        step = step if isPreview else self.history.newest(name, n)
        mask = self._write(self._targets[name], n, mask, iou, step)
        if not isPreview:
            self.history.learn(name, n, mask)

    def _write(self, target: Target, n: int, mask: np.ndarray, iou: float | None, step: Step | None) -> np.ndarray:
        """Write a prompted mask; returns what it has become beside the other targets."""
        others = [other for other in self._targets.values() if other is not target] if self._exclusive else []
        kept = [other for other in others if other.isKept(n)]
        for other in kept:
            mask = mask & ~other.mask(n)
        mask = target.put(n, mask, iou)
        for other in others:
            if other not in kept:
                _giveWay(other, n, mask, step)
        return mask

    def automatic(self, result) -> Iterator[str]:
        """Write a pass's slice for all targets that do not keep theirs; yields these targets' names."""
        n = result.index
        kept = {name: self._targets[name].isKept(n) for name in result.masks}
        taken = np.zeros(self._source.grid.shape[1:], bool)
        for name in [name for name, isKept in kept.items() if isKept and self._exclusive]:
            taken |= self._targets[name].mask(n)
        for name, mask in result.masks.items():
            if not kept[name]:
                self._targets[name].put(n, mask & ~taken, result.iou.get(name))
                yield name

    # Propagation is one step

    def beginChain(self, name: str) -> None:
        self._chain = Step(name, Moment(roi=self._targets[name].roi.state))

    def propagate(self, result) -> None:
        """Write a slice that was propagated to; it is kept from automatic passes until it is released."""
        target, n = self._targets[self._chain.target], result.index
        self._begin(self._chain, {n})
        self._write(target, n, result.masks[target.name], result.iou.get(target.name), self._chain)
        target.record(n)["state"] = PROPAGATED

    def endChain(self) -> None:
        if self._chain is None:
            return
        step, self._chain = self._chain, None
        if step.slices:
            step.after = self._targets[step.target].moment(step.slices)
            self.history.push(step)

    # Undo

    def undo(self) -> None:
        self._takeBack()
        step = self.history.undo()
        self._go(step, step.after, step.before)

    def redo(self) -> None:
        self._takeBack()
        step = self.history.redo()
        self._go(step, step.before, step.after)

    def _begin(self, step: Step, slices: set[int]) -> None:
        """Keep what a slice is like before the step touches it."""
        target = self._targets[step.target]
        for n in slices - set(step.before.masks):
            moment = target.moment({n})
            step.before.masks[n] = moment.masks[n]
            step.before.records[n], step.before.points[n] = moment.records[n], moment.points[n]
            if self._jobs.isWaiting(target.name, n):
                step.before.awaited.add(n)

    def _go(self, step: Step, here: Moment, there: Moment) -> None:
        """From one side of a step to the other."""
        target, slices = self._targets[step.target], set(there.points)
        target.replacePoints(slices, [mark for n in slices for mark in there.points[n]])
        if here.roi is not there.roi:
            target.restoreRoi(there.roi)
        for n in slices:
            self._putBack(step, n, there, here)

    def _putBack(self, step: Step, n: int, there: Moment, here: Moment | None) -> None:
        """A slice as it was `there`; hand edits made `here` stay, and other targets get back what they gave."""
        target = self._targets[step.target]
        self._jobs.drop((target.name, n))
        was, known, record = target.mask(n), there.masks.get(n), there.records.get(n)
        if record is None:
            target.records.pop(n, None)
        else:
            target.records[n] = dict(record)
        if known is not None:
            target.restore(n, revert(was, here.masks.get(n) if here is not None else None, known))
        mask = target.mask(n)
        for (name, slice_), gift in step.others.items():
            if slice_ == n:
                other = self._targets[name]
                if not other.isKept(n):
                    back = gift.given.mask() | (gift.whole.mask() & was)
                    other.put(n, (other.mask(n) | back) & ~mask, other.record(n)["iou"])
        if known is None or n in there.awaited:
            now = self.history.newest(target.name, n)
            start = None if now is None else _start(now, n)
            self._decode(target, n, target.table, target.roi.boxes, start)


def _start(step: Step, n: int) -> np.ndarray | None:
    """The mask that prompts on slice n refine: one that was propagated to it, as it was before the step."""
    record, mask = step.before.records.get(n), step.before.masks.get(n)
    refines = record is not None and mask is not None and (record["state"] == PROPAGATED or record.get("refined"))
    return mask.mask() if refines else None


def _giveWay(other: Target, n: int, mask: np.ndarray, step: Step | None) -> None:
    """Take `mask` out of an automatic slice of another target, remembering in the step what it was."""
    known = None if step is None else step.others.get((other.name, n))
    whole = other.mask(n) if known is None else known.whole.mask()
    if known is None and not (whole & mask).any():
        return
    if step is not None:
        given = whole & mask if known is None else known.given.mask() | (whole & mask)
        step.others[other.name, n] = Gift(Bits(whole), Bits(given))
    other.put(n, whole & ~mask, other.record(n)["iou"])
