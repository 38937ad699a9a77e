"""A teaching that is going on: cases are written out, then a child process learns, and what it says is kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import qt
from slicer.i18n import tr as _

from . import copies, environment
from .cases import Case
from .child import Child
from .course import Course
from .exporting import Exported, Exporter
from .lesson import Lesson

_TOLD_TWICE = ("checking", "encoding", "")  # are of no use after a restart
_CHECKPOINT = 130  # exit code after the end of stdin


class Tuition:
    """onChanged() after whatever is new; onEnd() once. check: only find out what there is, and what it would take.

    leftOut: cases that could not be written, each with its problem. command: see Child.
    """

    def __init__(
        self,
        lesson: Lesson,
        onChanged: Callable[[], None],
        onEnd: Callable[[], None],
        check: bool = False,
        command=None,
    ) -> None:
        self.lesson, self.check, self.course = lesson, check, Course()
        self.exported: list[Exported] = []
        self.problem, self.isStopping, self.isWriting, self._isCancelled = "", False, False, False
        self._onChanged, self._onEnd, self._steps = onChanged, onEnd, iter(())
        self._child = Child(self._take, self._ended, command)
        self._lock = ExitStack()  # holds the workspace while cases are written, before the child does
        self._timer = qt.QTimer()
        self._timer.setInterval(0)  # one case, then the window's turn
        self._timer.connect("timeout()", self._write)

    @property
    def isRunning(self) -> bool:
        return self.isWriting or self._child.isRunning

    @property
    def leftOut(self) -> list[Exported]:
        return [each for each in self.exported if each.problem]

    def begin(self, chosen: Sequence[Case], targets: Sequence[str], shown: Sequence[str] = ()) -> None:
        """Write the scene's cases, then let the child begin. targets: names to write; none: all that there are; shown:
        how the user knows the cases.

        Raises InputError where another process teaches under that name: what it keeps there is not written over.
        """
        copies.touch(self.lesson)
        if not self.check:
            alone = environment.core("lock").alone(self.lesson.workspace, _("give the pack another name"))
            self._lock.enter_context(alone)
        names = list(targets) or list(dict.fromkeys(name for case in chosen for name in case.segments()))
        self._steps = Exporter(self.lesson.casesFolder).write(chosen, names, shown)
        self.isWriting = True
        self._timer.start()

    def resume(self) -> None:
        """Go on with what was written before; the curve so far comes from the folder."""
        for line in self._remembered():
            self.course.take(line)
        self.course.result, self.course.failure, self.course.notice, self.course.isPaused = None, "", "", False
        self.lesson.state = "running"
        self.lesson.save()
        self._launch()

    def pause(self, paused: bool) -> None:
        self._child.send("pause" if paused else "resume")

    def stop(self) -> None:
        """With the best so far kept as a pack; asked again, at once, with what the last checkpoint has."""
        if self.isWriting or self.check or self.isStopping:
            self.kill()
        else:
            self.isStopping = True
            self._child.send("resume")  # a paused one may be waiting
            self._child.send("stop")

    def kill(self) -> None:
        if self.isWriting:
            self._finish(_("Cancelled."))
        else:
            self._isCancelled = self.check
            self._child.kill()

    def letGo(self) -> None:
        """The application ends, or the module is loaded again."""
        self._timer.stop()
        self._lock.close()
        self._onChanged = self._onEnd = lambda: None
        self._child.letGo()
        self.clear()

    def clear(self) -> None:
        """Remove copies of the user's volumes that no teaching of this name needs, as those of a check."""
        copies.clear(self.lesson)

    def _write(self) -> None:
        """One case, or after the last one the child's start."""
        try:
            exported = next(self._steps, None)
            if exported is None:
                self._timer.stop()
                self.isWriting = False
                self._written()
                return
            self.exported.append(exported)
        except Exception as error:  # a full disk, or what nobody has thought of: it is told, and nothing began
            logging.exception("ProMISe: a case could not be written")
            self._finish(str(error))
            return
        self._onChanged()

    def _written(self) -> None:
        fine = [each for each in self.exported if not each.problem]
        lesson = self.lesson
        lesson.files = [str(file) for each in fine for file in each.files]
        lesson.shown = {each.name: each.shown for each in fine}
        self._setHeldOut({each.shown: each.name for each in fine})
        if not lesson.files and not lesson.folders:
            problems = "; ".join(each.problem for each in self.leftOut)
            self._finish(problems or _("there is nothing to learn from: tick a volume and its segmentation"))
            return
        if not self.check:
            lesson.save()  # before anything of the one before goes: where the disk is full, that can still go on
            lesson.eventsFile.unlink(missing_ok=True)
            copies.keepOnly(lesson, lesson.files)
        self._launch()

    def _setHeldOut(self, names: Mapping[str, str]) -> None:
        """names: of what is written, by what it is called here, which no child process is told."""
        held = self.lesson.heldOut
        self.lesson.heldOut = names.get(held, held)
        if held in [each.shown for each in self.leftOut]:
            self.lesson.heldOut = ""
            text = _("{name} cannot be used, and so not be held out: what is proposed is held out instead")
            self.course.note(text.format(name=held))

    def _launch(self) -> None:
        self._lock.close()
        self._child.start(self.lesson.arguments(self.check))
        self._onChanged()

    def _take(self, line: str) -> None:
        kind = self.course.take(line)
        if kind and not self.check and kind not in _TOLD_TWICE:
            self._remember(line)
        if kind:
            self._onChanged()

    def _remember(self, line: str) -> None:
        """For the curve after a restart: a disk that is full costs no more than that. A line begins with its break, so
        that one before it that is cut off costs only itself."""
        try:
            with self.lesson.eventsFile.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(json.loads(line), ensure_ascii=False))
        except OSError as error:
            logging.warning("ProMISe: an event of the teaching was not kept: %s", error)

    def _remembered(self) -> list[bytes]:
        """Lines as they are on disk: cut off or damaged ones are no events."""
        try:
            return self.lesson.eventsFile.read_bytes().splitlines() if self.lesson.eventsFile.is_file() else []
        except OSError as error:
            logging.warning("ProMISe: the curve so far cannot be read: %s", error)
            return []

    def _ended(self, code: int | None, errors: str) -> None:
        course = self.course
        if course.failure:
            self.problem = self.lesson.inWords(course.failure)
        elif self._isCancelled or (course.result is None and not (self.check and course.report is not None)):
            self.problem = self._why(code, errors)
        if not self.check:
            isDone = course.result is not None and not (course.result.get("stopped") or course.result.get("problem"))
            self.lesson.state = "done" if isDone else "stopped"
            self._keepState()
        self._onEnd()

    def _keepState(self) -> None:
        """Of a teaching that has ended: where it cannot be kept, it is offered to go on after a restart."""
        try:
            self.lesson.save()
        except environment.core("errors").InputError as error:
            self.course.note(str(error))
            logging.warning("ProMISe: the end of the teaching was not kept: %s", error)

    def _why(self, code: int | None, errors: str) -> str:
        """Of a child that ended without a word."""
        if self._isCancelled:
            return _("Cancelled.")
        if code == _CHECKPOINT:
            return _("the teaching was ended; Resume goes on from its checkpoint")
        how = _("was killed or crashed") if code is None else _("ended with code {code}").format(code=code)
        last = errors.strip().splitlines()[-1:] or [""]
        text = _("the child process {how}. What it had learned is kept, and so is the pack before it; Resume goes on")
        return text.format(how=how) + (f" ({last[0][:300]})" if last[0] else "")

    def _finish(self, problem: str) -> None:
        self._timer.stop()
        self._lock.close()
        self.isWriting, self.problem = False, problem
        self._onEnd()
