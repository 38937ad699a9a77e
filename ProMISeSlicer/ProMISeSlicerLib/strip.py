"""The review strip: one column per slice with its quality, its agreement with the neighbours, and whose it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import qt
from slicer.i18n import tr as _

_COLUMN = 16  # pixels
_ROW = 18
_FRAME = 2  # pixels above and below the rows together
_LEAST_SPAN = 0.2  # smaller differences do not get all colours
_FEW = 18  # columns that fill any panel when stretched
_SHOWN, _STATE = 0, 3  # rows
_VALUES = ("iou", "agreement")  # between them
#: From poor to good, ordered in lightness too, so that it reads without colour vision (viridis, thinned).
_SCALE = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
_EMPTY = (200, 200, 200)
_DARK = (20, 20, 20)
#: What a slice's state looks like; the letter tells without the colour.
_STATES = {"auto": ("", _EMPTY), "user": ("U", (86, 180, 233)), "locked": ("L", (230, 159, 0))}


def scaleOf(values: Sequence[float | None]) -> tuple[float, float]:
    """The values that get the first and the last colour: of this volume, as models differ in how sure they are."""
    known = [value for value in values if value is not None and value == value]
    if not known:
        return 0.0, 1.0
    high = math.ceil(max(known) * 20) / 20
    return min(math.floor(min(known) * 20) / 20, high - _LEAST_SPAN), high


def colourOf(value: float | None, scale: tuple[float, float] = (0.0, 1.0)) -> tuple[int, int, int]:
    """Red, green, blue 0…255 for a value within a scale; grey for one that is not known."""
    if value is None or value != value:
        return _EMPTY
    place = min(max((value - scale[0]) / (scale[1] - scale[0]), 0.0), 1.0) * (len(_SCALE) - 1)
    low = min(int(place), len(_SCALE) - 2)
    return tuple(round(a + (b - a) * (place - low)) for a, b in zip(_SCALE[low], _SCALE[low + 1], strict=True))


def legend() -> str:
    """How to read the strip, in rich text."""
    squares = "".join(f'<span style="color:rgb{colour}">■</span>' for colour in _SCALE)
    return _("Lowest {squares} highest here.  U: yours, L: locked, ▼: on screen.").format(squares=squares)


def describe(index: int, state: Mapping) -> str:
    """One slice in words. index: from 0; state: "iou", "agreement" (0…1 or None) and "state"."""

    def figure(value) -> str:
        return _("unknown") if value is None else f"{value:.2f}"

    whose = {"auto": _("automatic"), "user": _("corrected by you"), "locked": _("locked")}
    if state.get("state") not in whose:
        return _("Slice {number}: not segmented yet").format(number=index + 1)
    if not state.get("matters", True):
        return _("Slice {number}: empty, as are its neighbours, {state}").format(
            number=index + 1, state=whose[state["state"]]
        )
    return _("Slice {number}: predicted quality {iou}, agreement with neighbours {agreement}, {state}").format(
        number=index + 1,
        iou=figure(state.get("iou")),
        agreement=figure(state.get("agreement")),
        state=whose[state["state"]],
    )


class SliceStrip:
    """Fills a QTableWidget and calls `clicked(index)` when a column is clicked."""

    def __init__(self, table, clicked: Callable[[int], None]) -> None:
        self.table, self._clicked, self._shown, self._marked = table, clicked, [], None
        table.setRowCount(4)
        table.setVerticalHeaderLabels([_("On screen"), _("Quality"), _("Agreement"), _("State")])
        table.horizontalHeader().hide()
        table.horizontalHeader().minimumSectionSize = _COLUMN
        table.horizontalHeader().defaultSectionSize = _COLUMN
        table.verticalHeader().minimumSectionSize = _ROW
        table.verticalHeader().defaultSectionSize = _ROW
        table.connect("cellClicked(int,int)", self._onCell)

    def show(self, states: Sequence[Mapping]) -> None:
        """Only columns that changed are painted again."""
        if len(states) != len(self._shown):
            self._shown, self._marked = [None] * len(states), None
            self._resize(len(states))
        telling = [state for state in states if state.get("matters", True)]
        scales = [scaleOf([state.get(key) for state in telling]) for key in _VALUES]
        for column, state in enumerate(states):
            look = (dict(state), scales)
            if self._shown[column] != look:
                self._paint(column, state, scales)
                self._shown[column] = look

    def _resize(self, count: int) -> None:
        self.table.setColumnCount(count)
        few = count <= _FEW
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.Stretch if few else qt.QHeaderView.Fixed)
        header.defaultSectionSize = _COLUMN
        scrollBar = 0 if few else self.table.style().pixelMetric(qt.QStyle.PM_ScrollBarExtent)
        self.table.setFixedHeight(self.table.rowCount * _ROW + _FRAME + scrollBar)

    def mark(self, index: int | None) -> None:
        """Point at the slice on screen, and bring it into sight."""
        if index == self._marked:
            return
        for column, sign in ((self._marked, ""), (index, "▼")):
            if column is not None and column < len(self._shown):
                self.table.item(_SHOWN, column).setText(sign)
        self._marked = index
        if index is not None and index < len(self._shown):
            self.table.scrollToItem(self.table.item(_STATE, index))

    def _paint(self, column: int, state: Mapping, scales: Sequence[tuple[float, float]]) -> None:
        letter, whose = _STATES.get(state.get("state"), ("", None))
        tip = describe(column, state)
        done = whose is not None
        values = [state.get(key) if state.get("matters", True) else None for key in _VALUES]
        shades = [colourOf(value, scale) if done else None for value, scale in zip(values, scales, strict=True)]
        colours = (None, *shades, whose)
        for row, colour in enumerate(colours):
            item = self.table.item(row, column)
            if item is None:
                item = qt.QTableWidgetItem("")
                item.setTextAlignment(qt.Qt.AlignCenter)
                self.table.setItem(row, column, item)
            item.setBackground(qt.QBrush() if colour is None else qt.QBrush(qt.QColor(*colour)))
            item.setToolTip(tip)
        item.setForeground(qt.QBrush(qt.QColor(*_DARK)))
        item.setText(letter)

    def _onCell(self, row: int, column: int) -> None:
        self._clicked(column)
