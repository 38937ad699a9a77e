"""A child process of ProMISeCore: lines come in by Qt's signals, commands go out, and the window never waits for it."""

from __future__ import annotations

import codecs
import logging
import shutil
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import qt

from . import environment

_TAIL = 12  # lines of stderr that are kept, to tell why it failed
#: Of glibc: memory that is given back and asked for again at every step takes most of the time on virtual machines.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
_PATIENCE_MS = 5000  # for a checkpoint, when the application ends
_TO_OBEY_MS = 1500  # what is to end at once may be loading libraries


def interpreter() -> str:
    """Slicer's Python for processes of their own; outside Slicer, the one that runs."""
    return shutil.which("PythonSlicer") or sys.executable


class Child:
    """onLine(text) for every line of stdout; onEnd(exit code, last lines of stderr) once, None where it was killed.

    command: program and first arguments, `python -m ProMISeCore` unless given; tests give a slower or a faulty one.
    In Slicer the process is a launcher that waits for the Python which computes, and hands stdin and stdout on.
    """

    def __init__(
        self,
        onLine: Callable[[str], None],
        onEnd: Callable[[int | None, str], None],
        command: Sequence[str] | None = None,
    ) -> None:
        self._onLine, self._onEnd = onLine, onEnd
        self._command = list(command or (interpreter(), "-m", "ProMISeCore"))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest, self._errors, self._ended, self._isKilled = "", deque(maxlen=_TAIL), False, False
        self._process = qt.QProcess()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_TO_OBEY_MS)
        self._timer.connect("timeout()", self._process.kill)
        self._process.connect("readyReadStandardOutput()", self._read)
        self._process.connect("readyReadStandardError()", self._readErrors)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._failed)

    @property
    def isRunning(self) -> bool:
        return not self._ended and self._process.state() != qt.QProcess.NotRunning

    def start(self, arguments: Sequence[str]) -> None:
        """The arguments go as they are, not through a shell."""
        settings = qt.QProcessEnvironment.systemEnvironment()
        known = settings.value("PYTHONPATH", "")
        parent = str(Path(environment.core().__file__).resolve().parent.parent)
        settings.insert("PYTHONPATH", ";:"[sys.platform != "win32"].join(filter(None, (parent, known))))
        settings.insert("PYTHONUTF8", "1")
        settings.insert("PYTHONUNBUFFERED", "1")
        for name, value in _KEEP_MEMORY.items():
            if not settings.contains(name):
                settings.insert(name, value)
        self._process.setProcessEnvironment(settings)
        logging.info("ProMISe: a child process starts: %s", arguments[0])
        self._process.start(self._command[0], [*self._command[1:], *map(str, arguments)])

    def send(self, word: str) -> None:
        """A command: pause, resume, stop or kill."""
        if self.isRunning:
            self._process.write(qt.QByteArray(f"{word}\n".encode()))

    def letGo(self) -> None:
        """The application ends: the child is told by the end of its stdin, makes a checkpoint and ends, too."""
        if self.isRunning:
            self._process.closeWriteChannel()
            if not self._process.waitForFinished(_PATIENCE_MS) and self._isKilled:
                self._process.kill()

    def kill(self) -> None:
        """At once; what it wrote last stays. `onEnd` comes when it has ended.

        It ends itself: killing the launcher would leave it working. That is for a launcher that is still there later.
        """
        if self.isRunning and not self._isKilled:
            self.send("kill")
            self._isKilled = True
            self._process.closeWriteChannel()
            self._timer.start()

    def _read(self) -> None:
        self._rest += self._decoder.decode(bytes(self._process.readAllStandardOutput().data()))
        *lines, self._rest = self._rest.split("\n")
        for line in lines:
            self._onLine(line)

    def _readErrors(self) -> None:
        text = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace")
        self._errors.extend(line for line in text.splitlines() if line.strip())

    def _finished(self, code: int, status) -> None:
        self._read()
        self._readErrors()
        self._end(code if status == qt.QProcess.NormalExit and not self._isKilled else None)

    def _failed(self, error) -> None:
        """Of the errors only this one means that `finished` never comes."""
        if error == qt.QProcess.FailedToStart:
            self._errors.append(self._process.errorString())
            self._end(None)

    def _end(self, code: int | None) -> None:
        self._timer.stop()
        if not self._ended:
            self._ended = True
            self._onEnd(code, "\n".join(self._errors))
