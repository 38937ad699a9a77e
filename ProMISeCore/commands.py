"""What a program tells a running command on stdin: pause, resume, stop or kill, a line each; its end, that it has gone.

kill ends the process at once, as the system would: where a launcher stands in between, as in 3D Slicer, the program can
only end that.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ProMISeCore.errors import Cancelled

KILLED = 137  # exit code, as of a process that the system has killed
_POLL_SECONDS = 0.1  # while paused


class Commands:
    """Listens on a file descriptor, or to nobody (None). tell: called with "paused" and "resumed".

    The thread reads the descriptor itself: one waiting in sys.stdin would crash the interpreter when that ends.
    """

    def __init__(self, descriptor: int | None, tell: Callable[[str], None] = lambda event: None) -> None:
        self._tell = tell
        self._paused = threading.Event()
        self.stopped = self.gone = False
        if descriptor is not None:
            threading.Thread(target=self._listen, args=(descriptor,), daemon=True).start()

    def stop(self) -> bool:
        """Whether to end now. Waits while paused."""
        if self._paused.is_set():
            self._tell("paused")
            while self._paused.is_set() and not self.stopped:
                time.sleep(_POLL_SECONDS)
            self._tell("resumed")
        return self.stopped

    def end_if_asked(self, message: str) -> None:
        """Raise Cancelled with the message where `stop` says so, KeyboardInterrupt where who asks has gone."""
        if not self.stop():
            return
        if self.gone:
            raise KeyboardInterrupt
        raise Cancelled(message)

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """Ctrl-C counts as the asking program's going, so that what is done meanwhile ends where it asks `stop`, whole;
        a second one ends at once. Where Ctrl-C is obeyed in another way, or by another thread, that stays."""
        own = signal.getsignal(signal.SIGINT)
        if own is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
            yield
            return

        def leave(*_: object) -> None:
            signal.signal(signal.SIGINT, own)
            self.gone = self.stopped = True

        signal.signal(signal.SIGINT, leave)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, own)

    def _listen(self, descriptor: int) -> None:
        rest = b""
        while piece := self._read(descriptor):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._obey(line.strip().decode("ascii", "replace"))
        self.gone, self.stopped = self.gone or not self.stopped, True  # of what Ctrl-C has said nothing is taken back

    def _read(self, descriptor: int) -> bytes:
        try:
            return os.read(descriptor, 1024)
        except OSError:
            return b""

    def _obey(self, command: str) -> None:
        if command == "pause":
            self._paused.set()
        elif command == "resume":
            self._paused.clear()
        elif command == "stop":
            self.stopped = True
        elif command == "kill":
            os._exit(KILLED)
