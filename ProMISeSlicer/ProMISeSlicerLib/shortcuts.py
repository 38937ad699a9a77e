"""Keys that work in the panel and in the views while the module is open; they are never on the main window."""

from __future__ import annotations

import qt
import slicer

#: Key → name of the button that it clicks. None of them is a key of Slicer's slice views.
KEYS = {
    "P": "positive",
    "N": "negative",
    "D": "delete",
    "U": "undo",
    "Shift+U": "redo",
    "L": "lock",
    "Shift+L": "release",
    "W": "nextWorst",
}


def _views() -> list:
    """Widgets of the slice and 3D views of the current layout; none without a main window."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return []
    slices = [manager.sliceWidget(name) for name in manager.sliceViewNames()]
    return slices + [manager.threeDWidget(index) for index in range(manager.threeDViewCount)]


class Shortcuts:
    """ui: the panel's widgets; panel: the panel itself."""

    def __init__(self, ui, panel) -> None:
        self._ui, self._panel, self._made = ui, panel, []

    def enable(self) -> None:
        """Also after the layout has changed, which may have made new views."""
        self.disable()
        for widget in (self._panel, *_views()):
            for keys, name in KEYS.items():
                shortcut = qt.QShortcut(qt.QKeySequence(keys), widget)
                shortcut.context = qt.Qt.WidgetWithChildrenShortcut
                shortcut.connect("activated()", getattr(self._ui, name + "Button").click)
                self._made.append(shortcut)

    def disable(self) -> None:
        for shortcut in self._made:
            shortcut.enabled = False
            shortcut.deleteLater()
        self._made = []
