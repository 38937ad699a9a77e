"""Which case is held out to measure with: the one that was chosen, whatever it is called meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from .cases import Case

_PROPOSED = 0  # first entry


class HeldOut:
    """combo: a QComboBox; changed: called where the user has chosen.

    node: the segmentation of the chosen case, as every one is listed once; None for what is proposed. It outlives the
    entries: a case that is unticked, and ticked again, is held out as before.
    """

    def __init__(self, combo, changed: Callable[[], None]) -> None:
        self.combo, self._changed = combo, changed
        self.node: Any = None
        self._nodes: list[Any] = []  # what the other entries are of
        combo.connect("currentIndexChanged(int)", self._onIndex)

    @property
    def name(self) -> str:
        """As the case is called in the list; "" for what is proposed."""
        return self.combo.currentText if self.combo.currentIndex > _PROPOSED else ""

    def show(self, used: Sequence[Case], names: Sequence[str]) -> None:
        self._nodes = [case.segmentationNode for case in used]
        self.combo.blockSignals(True)
        self.combo.clear()
        for text in (_("as proposed"), *names):
            self.combo.addItem(text)
        isThere = self.node in self._nodes
        self.combo.setCurrentIndex(1 + self._nodes.index(self.node) if isThere else _PROPOSED)
        self.combo.blockSignals(False)

    def called(self, name: str) -> Any:
        """The segmentation of the case that is called so in the list, or None."""
        names = [self.combo.itemText(1 + number) for number in range(len(self._nodes))]
        return self._nodes[names.index(name)] if name in names else None

    def lose(self, node, cases: Sequence[Case]) -> str:
        """A node leaves the scene; how the chosen case was called where it was held out, and cannot be any more."""
        volume = next((case.volumeNode for case in cases if case.segmentationNode is self.node), None)
        if node not in (volume, self.node):
            return ""
        name, self.node = self.name, None
        return name

    def _onIndex(self, index: int) -> None:
        self.node = self._nodes[index - 1] if index > _PROPOSED else None
        self._changed()
