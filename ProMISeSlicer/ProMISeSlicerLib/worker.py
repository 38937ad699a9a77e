"""One persistent thread that works for a session: newest prompts first, stale work dropped, a pass step by step.

Only numpy and torch are touched here, never MRML, VTK or Qt. In Slicer a Python thread runs only while the main thread
lends it the interpreter: whoever collects results calls `wait`, which does.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """What became of a job: kind "value" (one result), "done" (no more to come) or "error" (value: the exception)."""

    key: Hashable
    number: int
    kind: str
    value: Any = None


class _Job:
    def __init__(self, key: Hashable, number: int, steps: Iterator) -> None:
        self.key, self.number, self.steps, self.cancelled = key, number, steps, False


class Worker:
    """Jobs are functions (`submit`) or generators (`stream`); what they return or yield comes back from `reports`.

    Submitted jobs go before streams, also between a stream's steps. A job takes the place of one that still waits under
    the same key. The thread starts with the first job and lives until `close`, which may be called twice.
    """

    def __init__(self, name: str = "ProMISe worker") -> None:
        self._name = name
        self._condition = threading.Condition()
        self._urgent: OrderedDict[Hashable, _Job] = OrderedDict()
        self._streams: deque[_Job] = deque()
        self._running: _Job | None = None
        self._reports: deque[Report] = deque()
        self._numbers = itertools.count(1)
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether anything waits, runs or has not been collected."""
        with self._condition:
            return bool(self._urgent or self._streams or self._running or self._reports)

    @property
    def hasReports(self) -> bool:
        with self._condition:
            return bool(self._reports)

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def submit(self, key: Hashable, work: Callable[[], Any]) -> int:
        """Run `work()` soon; returns the job's number."""

        def once() -> Iterator:
            yield work()

        with self._condition:
            job = _Job(key, next(self._numbers), once())
            self._urgent[key] = job
            return self._started(job)

    def stream(self, key: Hashable, work: Callable[[], Iterator]) -> int:
        """Run the generator `work()` step by step whenever nothing is more urgent; returns the job's number."""

        def steps() -> Iterator:
            yield from work()

        with self._condition:
            job = _Job(key, next(self._numbers), steps())
            self._streams.append(job)
            return self._started(job)

    def cancel(self, key: Hashable | None = None) -> None:
        """Drop the jobs of this key, or all; a step that runs is finished, what it gives is dropped."""
        with self._condition:
            for job in [*self._urgent.values(), *self._streams, self._running]:
                if job is not None and key in (None, job.key):
                    job.cancelled = True
            self._urgent = OrderedDict((k, job) for k, job in self._urgent.items() if not job.cancelled)
            self._streams = deque(job for job in self._streams if not job.cancelled or job is self._running)
            self._condition.notify_all()

    def reports(self, seconds: float | None = None) -> Iterator[Report]:
        """What has come in, one by one; none after `seconds`, so that a screen stays alive (the rest is kept)."""
        end = None if seconds is None else time.monotonic() + seconds
        while end is None or time.monotonic() < end:
            with self._condition:
                if not self._reports:
                    return
                report = self._reports.popleft()
            yield report

    def wait(self, seconds: float) -> bool:
        """Lend the interpreter until a report is there or time is over; True if there is one."""
        end = time.monotonic() + seconds
        with self._condition:
            while not self._reports and (self._urgent or self._streams or self._running):
                left = end - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    break
            return bool(self._reports)

    def close(self, seconds: float = 5.0) -> bool:
        """End the thread after the step it is at; False if that takes longer (it then ends by itself, unheard)."""
        self.cancel()
        with self._condition:
            self._closed = True
            self._reports.clear()
            self._condition.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)
        return not self.alive

    def _started(self, job: _Job) -> int:
        if self._closed:
            raise RuntimeError("the worker is closed; make a new session")
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
            self._thread.start()
        self._condition.notify_all()
        return job.number

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            self._run(job)

    def _run(self, job: _Job) -> None:
        """One step of a job that `_next` has taken up."""
        report = self._step(job)
        with self._condition:
            self._running = None
            if job in self._streams and (job.cancelled or report.kind != "value"):
                self._streams.remove(job)
            if not job.cancelled and not self._closed:
                self._reports.append(report)
            self._condition.notify_all()
        if job.cancelled:
            job.steps.close()

    def _next(self) -> _Job | None:
        with self._condition:
            while not self._closed:
                if self._urgent:
                    _, self._running = self._urgent.popitem(last=False)
                    return self._running
                if self._streams:
                    self._running = self._streams[0]
                    return self._running
                self._condition.wait()
            return None

    @staticmethod
    def _step(job: _Job) -> Report:
        try:
            return Report(job.key, job.number, "value", next(job.steps))
        except StopIteration:
            return Report(job.key, job.number, "done")
        except Exception as error:  # whatever goes wrong belongs to whoever collects, in the main thread
            return Report(job.key, job.number, "error", error)
