"""How far each slice of a target can be trusted: agreement with its neighbours, and which one to look at next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np


class Agreement:
    """Intersection over union of neighbouring slices' masks, computed again only where a slice has changed.

    read: the mask of slice n; stamp: another number whenever somebody has written any of them.
    """

    def __init__(self, count: int, read: Callable[[int], np.ndarray], stamp: Callable[[], int]) -> None:
        self._count, self._read, self._stamp = count, read, stamp
        self._pairs: dict[int, float] = {}  # n → IoU of slices n and n + 1
        self._filled: dict[int, bool] = {}
        self._seen = stamp()

    @contextmanager
    def writing(self, n: int) -> Iterator[None]:
        """Within it, slice n is written and nothing else, so that what is known of the others stays."""
        self._refresh()
        yield
        self._filled.pop(n, None)
        for pair in (n - 1, n):
            self._pairs.pop(pair, None)
        self._seen = self._stamp()

    def _refresh(self) -> None:
        """Forget everything where somebody else has written, as Segment Editor does."""
        now = self._stamp()
        if now != self._seen:
            self.forget()
            self._seen = now

    def forget(self) -> None:
        """For who has found a change that the stamp does not tell: a script wrote into an array, and told nobody."""
        self._pairs.clear()
        self._filled.clear()

    def filled(self, n: int) -> bool:
        self._refresh()
        return self._isFilled(n)

    def _isFilled(self, n: int) -> bool:
        if n not in self._filled:
            self._filled[n] = bool(self._read(n).any())
        return self._filled[n]

    def of(self, n: int) -> float | None:
        """Mean over the neighbours, 0…1; 1 among empty slices; None for a single slice."""
        self._refresh()
        pairs = [self._pair(pair) for pair in (n - 1, n) if 0 <= pair < self._count - 1]
        return float(np.mean(pairs)) if pairs else None

    def _pair(self, n: int) -> float:
        if n not in self._pairs:
            if self._isFilled(n) and self._isFilled(n + 1):
                a, b = self._read(n), self._read(n + 1)
                self._pairs[n] = float((a & b).sum() / (a | b).sum())
            else:
                self._pairs[n] = float(self._isFilled(n) == self._isFilled(n + 1))
        return self._pairs[n]


def cells(target, count: int) -> list[dict]:
    """Per slice of a `Target`: slice, state, propagated, iou (predicted), agreement, matters.

    state: auto (also what was there before), user (also where it was propagated to), locked or todo. iou and agreement
    may be None; matters: the slice or a neighbour holds anything.
    """
    found = []
    for n in range(count):
        state = target.state(n)
        shown = {None: "todo", "auto": "auto", "found": "auto"}.get(state, "user")
        around = range(max(n - 1, 0), min(n + 2, count))
        found.append(
            {
                "slice": n,
                "state": "locked" if target.isLocked(n) else shown,
                "propagated": state == "propagated",
                "iou": target.records[n].get("iou") if state else None,
                "agreement": target.agreement.of(n) if state else None,
                "matters": any(target.agreement.filled(m) for m in around),
            }
        )
    return found


def nextWorst(states: Sequence[dict], seen: set[int]) -> int | None:
    """The worst slice that is not in `seen`, which remembers it; when all are, around again."""
    found = _worst(states, seen)
    if found is None and seen:
        seen.clear()
        found = _worst(states, seen)
    if found is not None:
        seen.add(found)
    return found


def _worst(states: Sequence[dict], seen: set[int]) -> int | None:
    """The automatic or propagated slice of least predicted IoU times agreement; None where all are in `seen`."""

    def score(cell: dict) -> float:
        values = [cell[key] for key in ("iou", "agreement") if cell[key] is not None]
        return float(np.prod(values))

    unseen = [cell for cell in states if cell["state"] == "auto" or cell["propagated"]]
    open_ = [cell for cell in unseen if cell["matters"] and cell["slice"] not in seen]
    return min(open_, key=lambda cell: (score(cell), cell["slice"]))["slice"] if open_ else None
