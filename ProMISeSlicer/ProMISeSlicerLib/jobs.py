"""What a session asks of its engine: jobs in the worker, of which only the newest of each kind counts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

import numpy as np

from .engine import Engine
from .history import Bits
from .source import Source
from .worker import Report, Worker


class Jobs:
    """Keys: (target, slice) of a prompted slice, ("tidy", target, …) and the names of streams.

    The engine is opened in the worker's thread before the first job, and again when the source shows other voxels.
    """

    def __init__(self, engine: Engine, source: Source) -> None:
        self.engine, self.source = engine, source
        self._worker = Worker()
        self._latest: dict[Hashable, int] = {}
        self._opened: list[bool] = []  # filled by the worker once the engine is open for these voxels

    @property
    def busy(self) -> bool:
        return self._worker.busy

    @property
    def hasReports(self) -> bool:
        return self._worker.hasReports

    def reopen(self) -> None:
        """The source shows other voxels: open the engine for them before the next job."""
        self._opened = []

    def decode(self, target: str, n: int, points, labels, own, box, mask) -> None:
        """Solve a target on slice n from its prompts; points may be empty, own says which are the user's, box and mask
        may be None."""
        engine = self.engine
        points, labels, own = (points, labels, own) if len(points) else (None, None, None)
        work = self._afterOpening(lambda: engine.segmentSlice(n, target, points, labels, box, mask, own))
        self._latest[target, n] = self._worker.submit((target, n), work)

    def submit(self, key: Hashable, work: Callable) -> None:
        self._latest[key] = self._worker.submit(key, self._afterOpening(work))

    def stream(self, key: str, work: Callable[[], Iterator]) -> None:
        ready = self._afterOpening(work)

        def steps() -> Iterator:
            yield from ready()

        self._latest[key] = self._worker.stream(key, steps)

    @property
    def waiting(self) -> list[tuple[str, int]]:
        """Prompted slices, as (target, slice), whose answers have not come."""
        cells = [key for key in self._latest if isinstance(key, tuple) and isinstance(key[0], str)]
        return sorted(cells)

    def isWaiting(self, target: str, n: int) -> bool:
        return (target, n) in self._latest

    def drop(self, key: Hashable) -> None:
        """What this job finds is no longer wanted."""
        self._latest.pop(key, None)
        self._worker.cancel(key)

    def wait(self, seconds: float) -> None:
        self._worker.wait(seconds)

    def reports(self, seconds: float | None) -> Iterator[Report]:
        """What the newest jobs have found, for about `seconds`."""
        for report in self._worker.reports(seconds):
            if report.number != self._latest.get(report.key):
                continue
            if isinstance(report.key, tuple):
                del self._latest[report.key]
            yield report

    def close(self, seconds: float) -> bool:
        """End the thread, then the engine that it works with; False where that takes longer."""
        ended = self._worker.close(seconds)
        if ended:
            self.engine.close()
        return ended

    def _afterOpening(self, work: Callable) -> Callable:
        """`work`, in the worker's thread, after the engine has been opened there for the voxels of now."""
        engine, source, done = self.engine, self.source, self._opened
        volume, manifest, axis = source.volume, source.manifest, source.axis

        def opened():
            if not done:
                engine.open(volume, manifest, axis)
                done.append(True)
            return work()

        return opened


def tidied(engine: Engine, mask: np.ndarray, keep: np.ndarray) -> Callable[[], list[Bits]]:
    """Work for `Jobs.submit`: the slices of (n, H, W) without pieces beside the largest, as `Engine.tidy` says."""
    packed = Bits(mask)  # all targets wait at the same time, and so may what was found
    return lambda: [Bits(tidy) for tidy in engine.tidy(packed.mask(), keep)]
