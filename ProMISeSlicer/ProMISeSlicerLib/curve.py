"""The curve of a teaching, painted: held-out Dice of every target and the loss over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import qt
from slicer.i18n import tr as _

from .course import Look
from .progress import duration

_MARGIN, _RIGHT, _TOP, _BOTTOM = 34, 8, 22, 20  # pixels around the curve
_DOT = 3


class Curve:
    """Paints into a QLabel, in the colours of its palette; anew for every look."""

    def __init__(self, label) -> None:
        self.label = label

    def show(self, looks: Sequence[Look], colours: Mapping[str, Sequence[float]]) -> None:
        """Hidden until there is something to show. colours: target → red, green, blue 0…1."""
        self.label.visible = bool(looks)
        if looks:
            shades = {name: qt.QColor(*(round(255 * part) for part in colour)) for name, colour in colours.items()}
            self.label.setPixmap(self._painted(looks, shades))

    def _painted(self, looks: Sequence[Look], shades: Mapping):
        ratio = self.label.devicePixelRatioF()
        width, height = max(self.label.width, 200), self.label.height
        pixmap = qt.QPixmap(round(width * ratio), round(height * ratio))
        pixmap.setDevicePixelRatio(ratio)
        pixmap.fill(qt.QColor(0, 0, 0, 0))
        painter = qt.QPainter()
        painter.begin(pixmap)
        painter.setRenderHint(qt.QPainter.Antialiasing, True)
        _Drawing(painter, width, height, self.label.palette.color(qt.QPalette.WindowText), looks, shades).draw()
        painter.end()
        return pixmap


class _Drawing:
    """One picture: a frame, the loss in grey, a line per target, and what the lines are."""

    def __init__(self, painter, width: int, height: int, ink, looks: Sequence[Look], shades: Mapping) -> None:
        self.painter, self.width, self.height, self.ink, self.looks = painter, width, height, ink, looks
        self.shades = shades
        self.end = max(look.elapsed for look in looks) or 1.0
        self.top = max((look.loss for look in looks if look.loss is not None), default=1.0) or 1.0

    def draw(self) -> None:
        self._frame()
        self._line([(look.elapsed, look.loss and look.loss / self.top) for look in self.looks], self._faint(110), 1)
        names = list(dict.fromkeys(name for look in self.looks for name in look.dice))
        for name in names:
            values = [(look.elapsed, look.dice.get(name)) for look in self.looks]
            self._line(values, self._shade(name), 2)
        self._legend(names)

    def _shade(self, name: str):
        """Of a target's line: as it has in pictures, or ink where that is not known."""
        return self.shades.get(name, self.ink)

    def _faint(self, opacity: int):
        ink = qt.QColor(self.ink)
        ink.setAlpha(opacity)
        return ink

    def _place(self, seconds: float, value: float) -> tuple[int, int]:
        """Pixels of a moment and a value 0…1."""
        across, up = self.width - _MARGIN - _RIGHT, self.height - _TOP - _BOTTOM
        return round(_MARGIN + across * seconds / self.end), round(self.height - _BOTTOM - up * min(max(value, 0), 1))

    def _frame(self) -> None:
        for value in (0.0, 0.5, 1.0):
            (left, y), (right, _y) = self._place(0, value), self._place(self.end, value)
            self.painter.setPen(qt.QPen(self._faint(50), 1))
            self.painter.drawLine(left, y, right, y)
            self.painter.setPen(qt.QPen(self.ink, 1))
            self.painter.drawText(6, y + 4, f"{value:.1f}")
        text = duration(self.end)
        self.painter.drawText(self.width - _RIGHT - self._wide(text), self.height - 5, text)

    def _wide(self, text: str) -> int:
        return self.painter.fontMetrics().boundingRect(text).width()

    def _line(self, values: Sequence[tuple[float, float | None]], colour, width: int) -> None:
        """Gaps where a value is not known; the last known one is a dot."""
        self.painter.setPen(qt.QPen(colour, width))
        before = last = None
        for seconds, value in values:
            here = None if value is None else self._place(seconds, value)
            if here is not None and before is not None:
                self.painter.drawLine(*before, *here)
            before, last = here, here or last
        if last is not None:
            self.painter.setBrush(qt.QBrush(colour))
            self.painter.drawEllipse(last[0] - _DOT, last[1] - _DOT, 2 * _DOT, 2 * _DOT)

    def _legend(self, names: Sequence[str]) -> None:
        x = _MARGIN
        for text, colour in [*((name, self._shade(name)) for name in names), (_("loss"), self._faint(110))]:
            self.painter.setPen(qt.QPen(colour, 3))
            self.painter.drawLine(x, 10, x + 14, 10)
            self.painter.setPen(qt.QPen(self.ink, 1))
            self.painter.drawText(x + 18, 14, text)
            x += 32 + self._wide(text)
