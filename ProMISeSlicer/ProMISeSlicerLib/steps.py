"""Prompt steps: from what the user does with the prompts to the slices to solve, and back again with undo and redo."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import numpy as np

from .base import Base
from .history import Bits, Cell, History, Moment, Step, revert
from .jobs import Jobs
from .prompts import SOURCE, USER, hardenedRoi
from .propagation import Propagation
from .source import Source
from .target import BASE, PROPAGATED, Mark, Target, differ, differences


class Steps:
    """rivals: a target's name → those that it does not overlap; the user's slices win, then the target that was
    prompted last."""

    def __init__(
        self, targets: Mapping[str, Target], source: Source, jobs: Jobs, rivals: Callable[[str], Collection[str]]
    ) -> None:
        self._targets, self._source, self._jobs, self._rivals = targets, source, jobs, rivals
        self.history = History()
        self._open: dict[str, Step] = {}  # under way, while dragging
        self._chain: tuple[Step, Propagation] | None = None  # under way

    # From prompts to jobs

    def solve(self, name: str, dragging: bool, onScreen: int | None) -> str | None:
        """Decode the slices whose prompts have changed, for show while dragging, else for good; a hint at the end."""
        target = self._targets[name]
        table, roi = target.readTable(), target.readRoi()
        moved, roiMoved = differences(target.table, table), differ(target.roi.corners, roi.corners)
        if not moved and not roiMoved and name not in self._open:
            return None
        roi = target.readRoi(edited=True) if roiMoved else roi
        places = {n for slices in moved.values() for n in slices}  # also outside the volume
        touched = {n for n in places if 0 <= n < len(self._source)}
        crossed = set(roi.boxes) | set(target.roi.boxes) if roiMoved else set()
        touched |= {n for n in crossed if not target.isLocked(n)}
        if not dragging:
            self._takeBack(but=name)
        step = self._open.setdefault(name, Step(name, before=Moment(roi=target.roi.state)))
        step.boxes = roi.boxes if roiMoved else None
        if dragging and roiMoved:
            touched &= {onScreen}
        self._begin(step, touched, places)
        if not dragging:
            return self._commit(step, touched, moved, roiMoved)
        shown = {id_: mark._replace(user=mark.user or id_ in moved) for id_, mark in table.items()}  # as once dropped
        for n in touched:
            self._decode(target, n, shown, roi.boxes, Base.of(step, n))
        return None

    def _begin(self, step: Step, slices: set[int], places: set[int] = frozenset()) -> None:
        """Keep what slices are like before the step touches them; of places, the points."""
        target = self._targets[step.target]
        for n in slices:
            cell = target.name, n
            if not step.touches(cell):
                target.isUsers(n)  # finds a hand edit, lest it pass for what the step shows
                step.before.take(cell, target.mask(n), target.records.get(n))
                if self._jobs.isWaiting(*cell):
                    step.before.awaited.add(cell)
        for n in slices | places:
            step.before.points.setdefault(n, target.marks(n))

    def _takeBack(self, but: str | None = None) -> None:
        """What is shown of drags under way, lest another step begins or ends with it; the next move shows it again."""
        for step in [self._open.pop(name) for name in reversed(list(self._open)) if name != but]:
            self._withdraw(step, step.cells)

    def _withdraw(self, step: Step, cells: list[Cell]) -> None:
        """Slices as they were before a drag, which has nothing to do with them any more."""
        for cell in cells:
            if cell in step.after.masks:
                self._move(step, cell, step.after, step.before)
        for cell in cells:
            if cell[0] == step.target:
                self._jobs.drop(cell)
                if cell in step.before.awaited:
                    self._decodeAgain(cell)
            step.before.forget(cell)

    def _commit(self, step: Step, touched: set[int], moved: dict[str, set[int]], roiMoved: bool) -> str:
        """Make the step the user's: points claimed and brought onto their slice, other slices of a drag put back."""
        target = self._targets[step.target]
        self._open.pop(step.target, None)
        hint = target.claim(set(moved))
        if roiMoved:
            target.prompts.roi.SetAttribute(SOURCE, USER)
        target.settle()
        self._withdraw(step, [cell for cell in step.cells if cell[1] not in touched])  # passed through
        bases = {n: Base.of(step, n) for n in touched}
        for n in touched:
            target.record(n)["state"] = USER
            target.rebase(n, bases[n])
        for name, n in step.cells:
            step.after.take((name, n), self._targets[name].mask(n), self._targets[name].records.get(n))
        places = touched.union(*moved.values())
        step.before.points = {n: marks for n, marks in step.before.points.items() if n in places}
        if moved or roiMoved:
            self.history.push(step)
        for n in touched:
            self._decode(target, n, target.table, target.roi.boxes, bases[n])
        return hint

    def _decode(
        self, target: Target, n: int, table: dict[str, Mark], boxes: dict[int, tuple], base: Base | None
    ) -> None:
        """boxes: of the ROI, asked with where there is no base; base: what points correct, with its own box, or None.
        Where nothing is left to ask the engine, the answer is there."""
        box = boxes.get(n) if base is None else base.box
        marks = [mark for mark in table.values() if mark.slice == n and self._source.isInside(mark.nrc)]
        asks = any(mark.positive if base is None else base.isCorrectedBy(mark) for mark in marks)
        if box is None and not asks:
            mask = np.zeros(self._source.grid.shape[1:], bool) if base is None else base.mask
            self._jobs.drop((target.name, n))
            self.found(target.name, n, mask, None if base is None else base.iou)
            return
        start = None if base is None else base.mask
        if base is not None and not start.any():  # erased by hand: begins anew, without what had led to the mask
            marks, start = [mark for mark in marks if base.isCorrectedBy(mark)], None
        points = np.array([mark.nrc[1:] for mark in marks], float).reshape(-1, 2)
        labels = np.array([int(mark.positive) for mark in marks], int)
        own = np.array([mark.user if base is None else base.isCorrectedBy(mark) for mark in marks], bool)
        self._jobs.decode(target.name, n, points, labels, own, box, start)

    def _decodeAgain(self, cell: Cell) -> None:
        """For an answer that has not come before something else was asked for this slice."""
        (name, n), step = cell, self.history.newest(cell)
        target = self._targets[name]
        base = target.record(n).get(BASE) if step is None else Base.of(step, n)
        target.rebase(n, base)
        self._decode(target, n, target.table, target.roi.boxes, base)

    def awaitAgain(self, cells: Iterable[Cell]) -> None:
        """Ask again for the answers to the user's prompts that had not come when the session was saved or ended."""
        for name, n in cells:
            target = self._targets.get(name)
            if target is not None and n < len(self._source) and target.state(n) == USER:  # else a drag was under way
                self._decodeAgain((name, n))

    # From results to segments

    def found(self, name: str, n: int, mask: np.ndarray, iou: float | None) -> None:
        """The answer to a slice's prompts: for show while they are dragged, else for good."""
        cell = name, n
        step = self._open.get(name)
        if step is None or not step.touches(cell):
            step = self.history.newest(cell)
        self._write(step, cell, mask, iou)

    def _write(self, step: Step | None, cell: Cell, mask: np.ndarray, iou: float | None) -> None:
        """Write a prompted mask beside the other targets: kept slices stay, automatic ones give way."""
        (name, n), others = cell, self._others(cell[0])
        for other in others:
            if other.isKept(n):
                mask = mask & ~other.mask(n)
        mask = self._targets[name].put(n, mask, iou)
        self._learn(step, cell)
        for other in others:
            if not other.isKept(n):
                self._giveWay(step, (other.name, n), mask)

    def _others(self, name: str) -> list[Target]:
        """Targets that the named one must not overlap."""
        return [self._targets[other] for other in self._rivals(name)]

    def _learn(self, step: Step | None, cell: Cell) -> None:
        """The slice has become what `step` leads to, whenever that was done, and what steps since go on from."""
        target, n = self._targets[cell[0]], cell[1]
        now = cell, target.mask(n), target.record(n)
        if step is not None:
            step.after.take(*now)
        done, undone = self.history.since(step, cell)
        for later in [*done, *undone]:
            if later.target == target.name:
                later.before.take(*now)
                break
            if step is not None:
                later.before.take(*now)
                later.after.take(*now)
        for drag in self._open.values():
            if drag is not step and drag.touches(cell):
                drag.before.take(*now)

    def _giveWay(self, step: Step | None, cell: Cell, mask: np.ndarray) -> None:
        """Take `mask` out of an automatic slice of another target; undoing the step gives it back."""
        other, n = self._targets[cell[0]], cell[1]
        whole, record = other.mask(n), dict(other.record(n))
        done, undone = self.history.since(step, cell)
        isLast = step is not None and step.touches(cell) and not done
        if isLast and np.array_equal(whole, step.after.masks[cell].mask()):
            whole = step.before.masks[cell].mask()  # as before an earlier answer to the same step
            for kept in self._others(other.name):
                if kept.isKept(n):
                    whole &= ~kept.mask(n)
        elif not (whole & mask).any():
            return
        if step is not None:
            base = done[0].before.masks[cell].mask() if done else whole  # what it was when the step was done
            if not step.touches(cell):
                step.before.take(cell, base, record)
            step.after.take(cell, base & ~mask, record)
        other.put(n, whole & ~mask, record["iou"])
        for later in done:
            later.before.cut(cell, mask)
            later.after.cut(cell, mask)
        for later in undone[:1]:
            later.before.take(cell, other.mask(n), other.record(n))

    def automatic(self, result) -> Iterator[str]:
        """Write a pass's slice for all targets that do not keep theirs; yields these targets' names."""
        n = result.index
        kept = {name: self._targets[name].isKept(n) for name in result.masks}
        for name, mask in result.masks.items():
            if not kept[name]:
                for other in [other for other in self._rivals(name) if kept.get(other)]:
                    mask = mask & ~self._targets[other].mask(n)
                self._put((name, n), mask, result.iou.get(name))
                yield name

    def tidied(self, name: str, slices: list[Bits]) -> None:
        """Write what a whole pass has left of a target, slice by slice; kept slices stay, points on empty ones go."""
        target, cleared = self._targets[name], set()
        for n, bits in enumerate(slices):
            mask = bits.mask()
            if (target.mask(n) != mask).any() and not target.isKept(n):
                self._put((name, n), mask, target.record(n)["iou"])
                if not mask.any():
                    cleared.add(n)
        target.replacePoints(cleared, [])

    def _put(self, cell: Cell, mask: np.ndarray, iou: float | None) -> None:
        """Write an automatic mask, which no step takes back; where a step is redone, it gives way as before."""
        target, n = self._targets[cell[0]], cell[1]
        mask = target.put(n, mask, iou)
        target.rebase(n, None)
        self._learn(None, cell)
        for later in self.history.undone:
            own = later.target, n
            if own == cell and later.touches(cell):
                return
            if later.target in self._rivals(target.name) and later.touches(own):
                later.before.take(cell, mask, target.record(n))
                mask = mask & ~later.after.masks[own].mask()
                later.after.take(cell, mask, target.record(n))

    # Propagation is one step

    def beginChain(self, propagation: Propagation) -> None:
        name = propagation.target
        step = Step(name, before=Moment(roi=self._targets[name].roi.state))
        self._chain = step, propagation
        self.history.push(step)

    @property
    def newestChain(self) -> Step | None:
        """The step of the propagation under way, if undo would take it back."""
        return self._chain[0] if self._chain is not None and self.history.isNewest(self._chain[0]) else None

    def propagate(self, result) -> Iterator[str]:
        """Write a slice that was propagated to; it is kept from automatic passes until it is released.

        Yields the target's name; nothing where the slice has become the user's meanwhile: that way ends there.
        """
        (step, propagation), n = self._chain, result.index
        target, drag = self._targets[step.target], self._open.get(step.target)
        cell = target.name, n
        if target.isUsers(n) or (drag is not None and drag.touches(cell)):
            propagation.endAt(n)
        if not propagation.goesOn(n):
            return
        step = self.history.owner(step, cell)
        self._begin(step, {n})
        self._jobs.drop(cell)
        target.record(n)["state"] = PROPAGATED
        target.keepAsBase(n)
        self._write(step, cell, result.masks[target.name], result.iou.get(target.name))
        yield target.name

    def endChain(self) -> None:
        if self._chain is None:
            return
        (step, _), self._chain = self._chain, None
        if not step.cells:
            self.history.discard(step)

    def harden(self, matrix: np.ndarray) -> None:
        """The boxes' own space has become another by matrix (4, 4), also of those that undo and redo bring back."""
        for step in [*self.history.steps, *self._open.values()]:
            for side in (step.before, step.after):
                side.roi = hardenedRoi(side.roi, matrix)
        for target in self._targets.values():
            target.roi = target.roi._replace(state=target.prompts.roiState())

    # Undo

    def undo(self) -> None:
        self._takeBack()
        with self.history.undoing() as step:
            for name, n in list(step.before.awaited):  # the answer may change other targets, too
                for other in self._others(name):
                    if not step.touches((other.name, n)):
                        for side in (step.before, step.after):
                            side.take((other.name, n), other.mask(n), other.records.get(n))
            self._go(step, step.after, step.before)

    def redo(self) -> None:
        self._takeBack()
        with self.history.redoing() as step:
            self._go(step, step.before, step.after)

    def _go(self, step: Step, here: Moment, there: Moment) -> None:
        """From one side of a step to the other; all that was here is kept, to come back to exactly."""
        target = self._targets[step.target]
        waiting = {cell for cell in step.own if self._jobs.isWaiting(*cell)}
        here.roi, here.points = target.roi.state, {n: target.marks(n) for n in step.before.points}
        target.replacePoints(there.points, [mark for marks in there.points.values() for mark in marks])
        if there.roi is not here.roi:
            target.restoreRoi(there.roi)
        for cell in step.cells:
            self._move(step, cell, here, there)
        here.awaited = waiting
        for cell in step.own:
            self._jobs.drop(cell)
            if cell in there.awaited:
                self._decodeAgain(cell)

    def _move(self, step: Step, cell: Cell, here: Moment, there: Moment) -> None:
        """One slice from here to there; hand edits that were made here stay."""
        target, n = self._targets[cell[0]], cell[1]
        isAutomatic, record = not target.isKept(n), there.records[cell]
        now = target.mask(n)
        mask = revert(now, here.masks[cell].mask(), there.masks[cell].mask())
        here.take(cell, now, target.records.get(n))
        there.masks[cell] = Bits(mask)
        target.restore(n, mask)
        if target.name == step.target:
            target.takeRecord(n, record)
        elif record is not None:
            target.record(n)["iou"] = record["iou"]
        if isAutomatic or target.name != step.target:
            target.acknowledge(n)
