"""The list of segments to learn; below them, of the pack to go on from, those that are not learned now, which stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress

import qt
from slicer.i18n import tr as _

from .lesson import segmentOf, valueOf


class SegmentList:
    """widget: the list; changed: called where the user has ticked or renamed something.

    A segment of the cases that the pack has, too, stays as it is once it is unticked: then it is listed below.
    unticked, dropped: what was unticked, of segments (as `show` was given them) and of those that stay; named: of
    values of label maps that the user has given a name, how. All of it outlives the rows.
    """

    def __init__(self, widget, changed: Callable[[], None]) -> None:
        self.widget, self._changed = widget, changed
        self._targets, self._stays = [], []  # what the rows are of
        self.named: dict[str, str] = {}
        self.unticked: set[str] = set()
        self.dropped: set[str] = set()
        widget.connect("itemChanged(QListWidgetItem*)", self._onItem)

    @property
    def chosen(self) -> list[str]:
        """Ticked segments; none where nothing is known yet or all are ticked by default."""
        return [item.text() for item in self._rows()[0] if item.checkState() == qt.Qt.Checked]

    @property
    def left(self) -> list[str]:
        """Those that would stay, and are unticked."""
        pairs = zip(self._stays, self._rows()[1], strict=True)
        return [name for name, item in pairs if item.checkState() != qt.Qt.Checked and not item.isHidden()]

    @property
    def isWhole(self) -> bool:
        """Whether all segments are to be learned, as they are called where they were found."""
        return self.chosen == self._targets

    @property
    def isUnticked(self) -> bool:
        """Whether there are segments, and none is ticked."""
        return bool(self._rows()[0]) and not self.chosen

    def show(self, targets: Mapping[str, int], known: Sequence[str], pack: str) -> None:
        """targets: a name as `--targets` takes it → how many cases have it; known: names of the pack's."""
        self._targets, self._stays = list(targets), list(known)
        self.widget.blockSignals(True)
        self.widget.clear()
        for target, count in targets.items():
            self.widget.addItem(self._segment(target, _("in {count} cases").format(count=count)))
        for name in self._stays:
            text = _("Not learned now: it stays as it is in {pack}. Untick it to leave it out of the new version.")
            shown = _("{name} (stays)").format(name=name)
            self.widget.addItem(_item(shown, name not in self.dropped, text.format(pack=pack)))
        self._hideLearned()
        self.widget.blockSignals(False)

    def _segment(self, target: str, found: str):
        """A value of a label map can be named here; a segment is called as it is where it was drawn."""
        isTicked, isValue = target not in self.unticked, valueOf(target) is not None
        how = _("double-click to name it, as in liver=1") if isValue else _("to rename it, use the Segment Editor")
        item = _item(self.shown(target), isTicked, f"{found}; {how}")
        if isValue:
            item.setFlags(item.flags() | qt.Qt.ItemIsEditable)
        return item

    def shown(self, target: str) -> str:
        """A target as it is asked for."""
        return self.named.get(target, target) if valueOf(target) is not None else target

    def _hideLearned(self) -> None:
        """What is learned from the cases does not stay as it is."""
        learned = {segmentOf(target) for target in self.chosen}
        for name, row in zip(self._stays, self._rows()[1], strict=True):
            row.setHidden(name in learned)

    def _rows(self) -> tuple[list, list]:
        """Of segments, and of those that stay."""
        items = [self.widget.item(row) for row in range(self.widget.count)]
        first = len(items) - len(self._stays)
        return items[:first], items[first:]

    def _write(self, row, text: str) -> None:
        self.widget.blockSignals(True)
        row.setText(text)
        self.widget.blockSignals(False)

    def _onItem(self, item) -> None:
        segments = self._rows()[0]
        for target, row in zip(self._targets, segments, strict=True):
            self.named.pop(target, None)
            if row.text() != target:
                self.named[target] = _withValue(row.text(), target)
                self._write(row, self.named[target])
        unticked = [row.checkState() != qt.Qt.Checked for row in segments]
        self.unticked = (self.unticked - set(self._targets)) | set(compress(self._targets, unticked))
        self._hideLearned()
        self.dropped = (self.dropped - set(self._stays)) | set(self.left)
        self._changed()


def _withValue(name: str, target: str) -> str:
    """What the user has called a value of a label map, with the value, which a name alone does not tell."""
    return f"{name}={valueOf(target)}" if valueOf(name) is None else name


def _item(text: str, isTicked: bool, toolTip: str):
    """An entry with a box."""
    item = qt.QListWidgetItem(text)
    item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
    item.setCheckState(qt.Qt.Checked if isTicked else qt.Qt.Unchecked)
    item.setToolTip(toolTip)
    return item
