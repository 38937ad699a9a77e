"""The list of packs, what the chosen one is, and whether it suits the chosen volume."""

from __future__ import annotations

from slicer.i18n import tr as _

from . import catalogue


class PackSection:
    """host: the module's widget, of which `logic`, `parameterNode`, `reporting` and `setSession` are used."""

    def __init__(self, ui, host) -> None:
        self.ui, self.host, self.packs = ui, host, []
        ui.packComboBox.connect("currentIndexChanged(int)", self.onChosen)
        self.fill()

    def fill(self) -> None:
        """List what is installed now."""
        with self.host.reporting(_("The packs could not be listed")):
            self.packs = self.host.logic.packs()
        self.ui.packComboBox.blockSignals(True)
        self.ui.packComboBox.clear()
        for pack in self.packs:
            self.ui.packComboBox.addItem(catalogue.title(pack.manifest))
        self.ui.packComboBox.blockSignals(False)
        self.show()

    @property
    def wanted(self) -> str:
        """Name of the pack in the scene, "" for any."""
        return self.host.parameterNode.pack if self.host.parameterNode else ""

    def chosen(self):
        """The wanted pack, the first one if any will do, None where it is not installed."""
        return next((pack for pack in self.packs if self.wanted in ("", pack.path.stem)), None)

    def onChosen(self, index: int) -> None:
        if self.host.parameterNode and 0 <= index < len(self.packs):
            self.host.setSession(None)
            self.host.parameterNode.pack = self.packs[index].path.stem

    def show(self) -> None:
        """The chosen pack's description, and a warning where it does not suit the volume."""
        pack, node = self.chosen(), self.host.parameterNode
        self.ui.packComboBox.blockSignals(True)
        self.ui.packComboBox.setCurrentIndex(self.packs.index(pack) if pack else -1)
        self.ui.packComboBox.blockSignals(False)
        volume = node.inputVolume if node else None
        warning = catalogue.misfit(pack.manifest, volume) if pack and volume else ""
        self.ui.packDetailsLabel.text = catalogue.details(pack.manifest) if pack else self.absent()
        self.ui.packWarningLabel.text = warning
        self.ui.packWarningLabel.visible = bool(warning)

    def absent(self) -> str:
        if not self.wanted:
            return _("No pack is installed; see Settings, Check installation.")
        return _("The pack {name} of this scene is not installed here; choose another one.").format(name=self.wanted)
