"""How far a pass or propagation is, and how long it will take."""

from __future__ import annotations

import time
from typing import NamedTuple


class Progress(NamedTuple):
    """Of the pass or propagation: slices done and in all, seconds left where that can be told."""

    done: int
    total: int
    secondsLeft: float | None


class Pace:
    """Of the pass under way, or of the last one."""

    def __init__(self) -> None:
        self._done, self._total, self._start = 0, 0, None

    @property
    def isUnderWay(self) -> bool:
        return self._start is not None

    @property
    def progress(self) -> Progress:
        left = None
        if self._start is not None and self._done:
            left = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        return Progress(self._done, self._total, left)

    def begin(self, total: int) -> None:
        self._done, self._total, self._start = 0, total, time.monotonic()

    def step(self) -> None:
        self._done += self.isUnderWay

    def end(self) -> None:
        self._start = None
