"""The Settings section: device, folders, cache, downloaded models, and the check of the installation."""

from __future__ import annotations

from slicer.i18n import tr as _

from . import folders, preferences, upkeep
from .preferences import DEFAULT_LIMIT, DEVICES, store, stored
from .progress import amount


class SettingsSection:
    """Binds the section's widgets to the settings and to what lies on disk.

    host: the module's widget, of which `say`, `reporting` and `onSettingsChanged` are used.
    """

    def __init__(self, ui, host) -> None:
        self.ui, self.host = ui, host
        for name in DEVICES:
            ui.deviceComboBox.addItem(name)
        ui.deviceComboBox.setCurrentIndex(DEVICES.index(preferences.device()))
        ui.cacheLimitSpinBox.value = stored("CacheLimit", DEFAULT_LIMIT, float)
        self.showFolders()
        ui.deviceComboBox.connect("currentIndexChanged(int)", self.onDevice)
        for kind in folders.KINDS:
            self.folderButton(kind).connect("directoryChanged(QString)", getattr(self, f"on{kind.capitalize()}Folder"))
        ui.cacheLimitSpinBox.connect("valueChanged(double)", self.onLimit)
        ui.resetFoldersButton.connect("clicked(bool)", self.onResetFolders)
        ui.clearCacheButton.connect("clicked(bool)", self.onClear)
        ui.removeModelsButton.connect("clicked(bool)", self.onRemoveModels)
        ui.selfCheckButton.connect("clicked(bool)", self.onCheck)
        ui.settingsCollapsibleButton.connect("contentsCollapsed(bool)", self.onCollapsed)

    def folderButton(self, kind: str):
        return getattr(self.ui, kind + "FolderButton")

    def showFolders(self) -> None:
        with self.host.reporting(_("The folders could not be read")):
            for kind in folders.KINDS:
                button = self.folderButton(kind)
                button.blockSignals(True)
                button.directory = str(folders.folder(kind))
                button.blockSignals(False)

    def onDevice(self, index: int) -> None:
        store("Device", DEVICES[index])
        self.host.onSettingsChanged()

    def onPackFolder(self, path: str) -> None:
        self.changeFolder("pack", path)

    def onBackboneFolder(self, path: str) -> None:
        self.changeFolder("backbone", path)

    def onCacheFolder(self, path: str) -> None:
        self.changeFolder("cache", path)

    def onResetFolders(self) -> None:
        before = _inUse()
        for kind in folders.KINDS:
            folders.choose(kind, "")
        self.showFolders()
        self.afterFolders(before)

    def changeFolder(self, kind: str, path: str) -> None:
        before = _inUse()
        folders.choose(kind, path)
        self.afterFolders(before)

    def afterFolders(self, before: list) -> None:
        self.refresh()
        if _inUse() != before:
            self.host.onSettingsChanged()

    def onLimit(self, gigabytes: float) -> None:
        """Of the next session's engine: one that is open keeps its own."""
        store("CacheLimit", gigabytes)

    def onCollapsed(self, collapsed: bool) -> None:
        if not collapsed:
            self.refresh()

    def refresh(self) -> None:
        """Look at the disk; only when the section is open."""
        with self.host.reporting(_("The folder could not be read")):
            size, slices = upkeep.cacheSize()
            self.ui.cacheLabel.text = _("Cache: {size}, {slices} slices").format(size=amount(size), slices=slices)
            self.ui.clearCacheButton.enabled = slices > 0
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

    def onCheck(self) -> None:
        lines = [("✓ " if fine else "✗ ") + text for fine, text in upkeep.check(preferences.device())]
        self.ui.selfCheckLabel.text = "\n".join(lines)


def _inUse() -> list:
    """Folders that a session is made of; the cache's concerns the next engine alone."""
    return [folders.folder(kind) for kind in folders.KINDS if kind != "cache"]
