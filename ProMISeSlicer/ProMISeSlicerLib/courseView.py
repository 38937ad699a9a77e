"""What is shown of a teaching: its stage, bar, curve, held-out picture and, at the end, the table."""

from __future__ import annotations

import qt

from . import findings
from .curve import Curve
from .tuition import Tuition

_PICTURE = 320  # pixels; a held-out slice is shown at most this wide


class CourseView:
    """ui: the panel's widgets whose names begin with `teach`."""

    def __init__(self, ui) -> None:
        self.ui, self.curve, self._pictured = ui, Curve(ui.teachCurveLabel), ""

    def show(self, tuition: Tuition) -> None:
        course, ui = tuition.course, self.ui
        self._bar(tuition)
        ui.teachStageLabel.visible = tuition.isRunning
        ui.teachStageLabel.text = findings.stage(course, tuition.isWriting, tuition.isStopping)
        if course.report is not None or tuition.leftOut:
            found = findings.report(tuition.lesson, course.report or {}, tuition.leftOut, course.notices)
            self._text(ui.teachFoundLabel, found)
        if not tuition.check:
            self.curve.show(course.looks, course.colours)
            self._picture(course.picture)
            self._text(ui.teachResultLabel, findings.result(tuition.lesson, course))

    def forget(self) -> None:
        """Nothing is left of the last one."""
        self.curve.show([], {})
        self._picture("")
        for label in (self.ui.teachFoundLabel, self.ui.teachResultLabel):
            self._text(label, "")

    def _bar(self, tuition: Tuition) -> None:
        """It moves without a number where none is known."""
        bar, course = self.ui.teachProgressBar, tuition.course
        bar.visible = tuition.isRunning
        done, total = course.read if course.report is None else course.encoded
        if course.looks:
            done, total = round(1000 * course.share), 1000
        bar.maximum = total
        bar.value = done

    def _picture(self, path: str) -> None:
        label = self.ui.teachPictureLabel
        if path == self._pictured:
            return
        picture = qt.QPixmap(path) if path else None
        there = picture is not None and not picture.isNull()
        if there:
            label.setPixmap(picture.scaledToWidth(min(_PICTURE, max(label.width, 200)), qt.Qt.SmoothTransformation))
        label.visible = there
        self._pictured = path

    @staticmethod
    def _text(label, text: str) -> None:
        label.text = text
        label.visible = bool(text)
