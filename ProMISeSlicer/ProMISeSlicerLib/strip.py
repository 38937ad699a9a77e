"""The review strip: one column per slice with its quality, its agreement with the neighbours, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import qt
from slicer.i18n import tr as _

_COLUMN = 14  # pixels
_ROW = 18
#: From poor to good, ordered in lightness too, so that it reads without colour vision (viridis, thinned).
_SCALE = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
_EMPTY = (200, 200, 200)
#: What a slice's state looks like; the letter tells without the colour.
_STATES = {"auto": ("", (200, 200, 200)), "user": ("U", (86, 180, 233)), "locked": ("L", (230, 159, 0))}


def colourOf(value: float | None) -> tuple[int, int, int]:
    """Red, green, blue 0…255 for a value 0…1; grey for one that is not known. Below 0.5 everything is poor."""
    if value is None or value != value:
        return _EMPTY
    place = min(max((value - 0.5) * 2, 0.0), 1.0) * (len(_SCALE) - 1)
    low = min(int(place), len(_SCALE) - 2)
    return tuple(round(a + (b - a) * (place - low)) for a, b in zip(_SCALE[low], _SCALE[low + 1], strict=True))


def describe(index: int, state: Mapping) -> str:
    """One slice in words. index: from 0; state: "iou", "agreement" (0…1 or None) and "state"."""

    def figure(value) -> str:
        return _("unknown") if value is None else f"{value:.2f}"

    whose = {"auto": _("automatic"), "user": _("corrected by you"), "locked": _("locked")}
    return _("Slice {number}: predicted quality {iou}, agreement with neighbours {agreement}, {state}").format(
        number=index + 1,
        iou=figure(state.get("iou")),
        agreement=figure(state.get("agreement")),
        state=whose.get(state.get("state"), _("not segmented yet")),
    )


class SliceStrip:
    """Fills a QTableWidget and calls `clicked(index)` when a column is clicked."""

    def __init__(self, table, clicked: Callable[[int], None]) -> None:
        self.table, self._clicked, self._shown = table, clicked, []
        table.setRowCount(3)
        table.setVerticalHeaderLabels([_("Quality"), _("Agreement"), _("State")])
        table.horizontalHeader().hide()
        table.horizontalHeader().minimumSectionSize = _COLUMN
        table.horizontalHeader().defaultSectionSize = _COLUMN
        table.verticalHeader().defaultSectionSize = _ROW
        table.connect("cellClicked(int,int)", self._onCell)

    def show(self, states: Sequence[Mapping]) -> None:
        """Only columns that changed are painted again."""
        if len(states) != len(self._shown):
            self._shown = [None] * len(states)
            self.table.setColumnCount(len(states))
        for column, state in enumerate(states):
            if self._shown[column] != state:
                self._paint(column, state)
                self._shown[column] = dict(state)

    def _paint(self, column: int, state: Mapping) -> None:
        letter, whose = _STATES.get(state.get("state"), ("", _EMPTY))
        cells = (
            ("", colourOf(state.get("iou"))),
            ("", colourOf(state.get("agreement"))),
            (letter, whose),
        )
        for row, (text, colour) in enumerate(cells):
            item = qt.QTableWidgetItem(text)
            item.setBackground(qt.QBrush(qt.QColor(*colour)))
            item.setToolTip(describe(column, state))
            self.table.setItem(row, column, item)

    def _onCell(self, row: int, column: int) -> None:
        self._clicked(column)
