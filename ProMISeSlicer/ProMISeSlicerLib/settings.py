"""The Settings section: choices of this machine, kept in the application's settings, not in the scene."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from . import upkeep

PREFIX = "ProMISeSlicer/"
DEVICES = ("auto", "cuda", "mps", "cpu")
DEFAULT_LIMIT = 10.0  # GB


def stored(key: str, default, converter=str):
    """A setting of this module, or its default."""
    return slicer.util.settingsValue(PREFIX + key, default, converter=converter)


def store(key: str, value) -> None:
    """Keep a setting of this module."""
    qt.QSettings().setValue(PREFIX + key, value)


def device() -> str:
    """The chosen one of DEVICES."""
    name = stored("Device", "auto")
    return name if name in DEVICES else "auto"


def cacheLimit() -> float:
    """Bytes."""
    return stored("CacheLimit", DEFAULT_LIMIT, float) * 1e9


def amount(size: float) -> str:
    """Bytes as people read them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


class SettingsSection:
    """Binds the section's widgets to the settings and to what lies on disk.

    host: the module's widget, of which `say`, `reporting` and `onSettingsChanged` are used.
    """

    def __init__(self, ui, host) -> None:
        self.ui, self.host = ui, host
        for name in DEVICES:
            ui.deviceComboBox.addItem(name)
        self.load()
        ui.deviceComboBox.connect("currentIndexChanged(int)", self.onDevice)
        ui.homeFolderButton.connect("directoryChanged(QString)", self.onFolder)
        ui.cacheLimitSpinBox.connect("valueChanged(double)", self.onLimit)
        ui.clearCacheButton.connect("clicked(bool)", self.onClear)
        ui.removeModelsButton.connect("clicked(bool)", self.onRemoveModels)
        ui.selfCheckButton.connect("clicked(bool)", self.onCheck)
        ui.settingsCollapsibleButton.connect("contentsCollapsed(bool)", self.onCollapsed)

    def load(self) -> None:
        """Show what is stored; before the widgets are connected."""
        self.ui.deviceComboBox.setCurrentIndex(DEVICES.index(device()))
        upkeep.useHome(stored("Home", ""))
        self.ui.homeFolderButton.directory = upkeep.home()
        self.ui.cacheLimitSpinBox.value = stored("CacheLimit", DEFAULT_LIMIT, float)

    def onDevice(self, index: int) -> None:
        store("Device", DEVICES[index])
        self.host.onSettingsChanged()

    def onFolder(self, folder: str) -> None:
        store("Home", folder)
        upkeep.useHome(folder)
        self.refresh()
        self.host.onSettingsChanged()

    def onLimit(self, gigabytes: float) -> None:
        store("CacheLimit", gigabytes)
        self.host.onSettingsChanged()

    def onCollapsed(self, collapsed: bool) -> None:
        if not collapsed:
            self.refresh()

    def refresh(self) -> None:
        """Look at the disk; only when the section is open."""
        with self.host.reporting(_("The folder could not be read")):
            size, slices = upkeep.cacheSize()
            self.ui.cacheLabel.text = _("Cache: {size}, {slices} slices").format(size=amount(size), slices=slices)
            names, used = upkeep.downloadedModels()
            listed = ", ".join(names) or _("none")
            self.ui.modelsLabel.text = _("Downloaded: {names} ({size})").format(names=listed, size=amount(used))
            self.ui.removeModelsButton.enabled = bool(names)

    def onClear(self) -> None:
        with self.host.reporting(_("The cache could not be cleared")):
            self.host.say(_("{count} cached slices removed.").format(count=upkeep.clearCache()))
        self.refresh()

    def onRemoveModels(self) -> None:
        with self.host.reporting(_("Not all models could be removed")):
            self.host.say(_("Downloaded models removed, {size} freed.").format(size=amount(upkeep.removeModels())))
        self.refresh()
        self.host.onSettingsChanged()

    def onCheck(self) -> None:
        lines = [("✓ " if fine else "✗ ") + text for fine, text in upkeep.check(device())]
        self.ui.selfCheckLabel.text = "\n".join(lines)
