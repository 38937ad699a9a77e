"""The table of cases to learn from: volumes and segmentations of the scene, and folders of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import qt
from slicer.i18n import tr as _

from . import cases
from .cases import AS_SEGMENTED, MINE, Case

_VOLUME, _SEGMENTATION, _SLICES, _FOUND = range(4)
_ROW = 24  # pixels
_Row = tuple[str, str]  # what a row is of, whatever it is called meanwhile: the IDs of volume and segmentation


class CaseTable:
    """Fills a QTableWidget from `cases` and `folders`, and changes them as the user does; changed() after each."""

    def __init__(self, table, changed: Callable[[], None]) -> None:
        self.table, self._changed = table, changed
        self.cases: list[Case] = []
        self.folders: list[str] = []
        self._found: dict[_Row, str] = {}
        self._details: dict[_Row, str] = {}
        self._asked: dict[str, _Row] = {}  # what is being found out about, by how it is called there
        table.setColumnCount(4)
        table.textElideMode = qt.Qt.ElideMiddle
        table.setHorizontalHeaderLabels([_("Volume"), _("Segmentation"), _("Slices"), _("Found")])
        table.verticalHeader().hide()
        table.verticalHeader().defaultSectionSize = _ROW
        for column in range(4):
            isName = column in (_VOLUME, _SEGMENTATION)
            mode = qt.QHeaderView.Stretch if isName else qt.QHeaderView.ResizeToContents
            table.horizontalHeader().setSectionResizeMode(column, mode)
        table.connect("itemChanged(QTableWidgetItem*)", self._onItem)
        table.connect("cellDoubleClicked(int,int)", self._onDoubleClick)

    @property
    def used(self) -> list[Case]:
        return [case for case in self.cases if case.used]

    @property
    def shown(self) -> list[str]:
        """How those used are called in the list, where each name stands once."""
        names = cases.shownNames(self.cases)
        return [name for name, case in zip(names, self.cases, strict=True) if case.used]

    @property
    def pending(self) -> list[Case]:
        """Those whose volume the user is to choose."""
        return [case for case in self.cases if case.volumeNode is None]

    @property
    def untold(self) -> list[Case]:
        """Those that are not learned from before the user has said that all slices were looked at."""
        return [case for case in self.used if case.chosen != AS_SEGMENTED and case.isUntold]

    def addScene(self) -> int:
        """Every segmentation that is not listed yet; how many there were. Where the volume is not known, the user is
        asked for it."""
        self.cases = [case for case in self.cases if case.volumeNode is not None]
        listed = [case.segmentationNode for case in self.cases]
        new = [case for case in cases.ofScene() if case.segmentationNode not in listed]
        self.cases += new
        self.show()
        return len(new)

    def addFolder(self, path: str) -> None:
        if path and path not in self.folders:
            self.folders.append(path)
            self.show()

    def forget(self) -> None:
        """The selected rows."""
        rows = {item.row() for item in self.table.selectedItems()}
        count = len(self.cases)
        self.folders = [path for number, path in enumerate(self.folders, count) if number not in rows]
        self.cases = [case for number, case in enumerate(self.cases) if number not in rows]
        self.show()

    def forgetNode(self, node) -> bool:
        """A node leaves the scene; True if it was in the list."""
        kept = [case for case in self.cases if node not in (case.volumeNode, case.segmentationNode)]
        gone = len(kept) < len(self.cases)
        self.cases = kept
        if gone:
            self.show()
        return gone

    def forgetAbsent(self) -> None:
        """What has left the scene with it."""
        self.cases = [case for case in self.cases if case.isInScene]

    def forgetScene(self) -> None:
        """It is closed: the IDs of its nodes will be those of others."""
        self.cases, self._found, self._details = [], {}, {}
        self.forgetAsked()

    def ask(self) -> None:
        """What is told from now on is of those used now, as they are called now."""
        self._asked = dict(zip(self.shown, map(_rowOf, self.used), strict=True))

    def forgetAsked(self) -> None:
        """What is told is of others."""
        self._asked = {}

    def tell(self, found: Mapping[str, str], details: Mapping[str, str]) -> None:
        """found: how a case was called when `ask` was → what was found in it; details: → more of it."""
        self._found, self._details = self._byRow(found), self._byRow(details)
        self.show(changed=False)

    def _byRow(self, texts: Mapping[str, str]) -> dict[_Row, str]:
        return {self._asked[name]: text for name, text in texts.items() if name in self._asked}

    def show(self, changed: bool = True) -> None:
        table = self.table
        table.blockSignals(True)
        table.clearContents()
        table.setRowCount(len(self.cases) + len(self.folders))
        shown = cases.shownNames(self.cases)
        for row, case in enumerate(self.cases):
            self._showCase(row, case, shown[row])
        for row, path in enumerate(self.folders, len(self.cases)):
            self._put(row, _VOLUME, _("Folder {name}").format(name=Path(path).name), path)
            self._put(row, _SEGMENTATION, _("beside the images"), path)
        table.blockSignals(False)
        if changed:
            self._changed()

    def _showCase(self, row: int, case: Case, shown: str) -> None:
        item = self._put(row, _VOLUME, shown, _("{name}\nDouble-click to choose another volume.").format(name=shown))
        if case.volumeNode is None:
            self.table.setCellWidget(row, _VOLUME, self._volumes(case))
        else:
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Checked if case.used else qt.Qt.Unchecked)
        name = case.segmentationNode.GetName()
        self._put(row, _SEGMENTATION, name, ", ".join(case.segments()) or _("no segment"))
        found = self._found.get(_rowOf(case), "")
        self._put(row, _FOUND, found, "\n".join(filter(None, (found, self._details.get(_rowOf(case))))))
        if not case.results():
            self._put(row, _SLICES, _("all"), _("The slices are taken as they are segmented."))
        else:
            self.table.setCellWidget(row, _SLICES, self._slices(row, case))

    def _volumes(self, case: Case):
        """Asks whose segmentation it is."""
        combo, volumes = qt.QComboBox(), cases.volumesFor(case.segmentationNode)
        texts = cases.numbered([volume.GetName() for volume in volumes])
        if case.volumeNode not in volumes:
            volumes, texts = [None, *volumes], [_("choose its volume"), *texts]
        for text in texts:
            combo.addItem(text)
        combo.setCurrentIndex(volumes.index(case.volumeNode))
        combo.toolTip = _("Which volume is this a segmentation of? Those on whose voxels it lies come first.")
        combo.connect("currentIndexChanged(int)", lambda index: self._onVolume(case, volumes[index]))
        return combo

    def _slices(self, row: int, case: Case):
        """Of a ProMISe result: whose slices count."""
        combo = qt.QComboBox()
        for text in (_("only mine"), _("all")):
            combo.addItem(text)
        combo.setCurrentIndex(0 if case.slices == MINE else 1)
        combo.toolTip = _("Only mine: slices that you have corrected, locked or edited. All: you have looked at all.")
        if case.isUntold:
            combo.toolTip = _("ProMISe made it, and nothing says which slices are yours. All: you have looked at all.")
        combo.connect("currentIndexChanged(int)", lambda index: self._onSlices(row, index))
        return combo

    def _put(self, row: int, column: int, text: str, tip: str):
        item = qt.QTableWidgetItem(text)
        item.setToolTip(tip)
        item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
        self.table.setItem(row, column, item)
        return item

    def _onVolume(self, case: Case, volume) -> None:
        """It stays as it was where the volume has left the scene meanwhile. The segmentation is not changed."""
        if volume is not None and volume.GetScene() is not None:
            self.cases[self.cases.index(case)] = cases.proposed(volume, case.segmentationNode)
        self.show()

    def _onDoubleClick(self, row: int, column: int) -> None:
        """What was paired wrongly can be paired otherwise."""
        if column == _VOLUME and row < len(self.cases):
            self.table.setCellWidget(row, _VOLUME, self._volumes(self.cases[row]))

    def _onSlices(self, row: int, index: int) -> None:
        self.cases[row].chosen = (MINE, AS_SEGMENTED)[index]
        self._changed()

    def _onItem(self, item) -> None:
        if item.column() == _VOLUME and item.row() < len(self.cases):
            self.cases[item.row()].used = item.checkState() == qt.Qt.Checked
            self._changed()


def _rowOf(case: Case) -> _Row:
    return tuple(node.GetID() if node is not None else "" for node in (case.volumeNode, case.segmentationNode))
