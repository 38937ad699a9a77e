"""A worker without its thread: what a job finds comes when a test turns the crank, always at the same moment."""

from __future__ import annotations

from ProMISeSlicerLib.worker import Worker


class Cranked(Worker):
    """The worker's own queue; two turns make a step of a job: it is taken up, and ends. Waiting turns once."""

    def crank(self) -> None:
        if self._running is not None:
            self._run(self._running)
        elif self._urgent or self._streams:
            self._next()

    def wait(self, seconds: float) -> bool:
        if seconds:
            self.crank()
        return self.hasReports

    def reports(self, seconds: float | None = None):
        """All there are: how many a pump takes in must not depend on the machine."""
        return super().reports(None)

    def _started(self, job) -> int:
        return job.number
